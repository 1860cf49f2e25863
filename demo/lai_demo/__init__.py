"""The whole data flow in one command: a scene in, a published LAI item out.

`python -m lai_demo` does what a user of each part would do, with the commands and clients that
the parts offer: it defines no algorithm of its own.
"""

__all__: list[str] = []
