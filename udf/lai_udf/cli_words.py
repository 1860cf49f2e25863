"""Sentences of the library in the words of a command: `--scale 0.0001`, not `SCALE=`.

Errors name settings as functions and `make demo` call them (`SCALE=`, `reflectance_scale=0.0001`,
`context['model']`); who sits at a terminal has options. In and out: one sentence.
"""

import re

__all__ = ["name_options"]

OPTIONS = {
    r" \((reflectance_(scale|offset)|datetime)(, reflectance_offset)?\)": "",
    r"(?<![\w/.-])(reflectance_scale\b=?|SCALE=)": "--scale ",
    r"(?<![\w/.-])(reflectance_offset\b=?|OFFSET=)": "--offset ",
    r"(?<![\w/.-])DATETIME=": "--datetime ",
    r"context\['(\w+)'\]": r"--\1 ",
    r"^context: (\w+)": r"--\1 ",
    r'\btarget="(\w+)"': r"--target \1",
}
"""Pattern of a setting in a message, and the option; first what repeats the name in brackets."""


def name_options(sentence: str) -> str:
    """Return a sentence with options of `lai-udf` and `lai-train sl2p` for settings."""
    for setting, option in OPTIONS.items():
        sentence = re.sub(setting, option, sentence)
    return re.sub(r"(--\w+) +(?=[\s,;:.)]|$)", r"\1", sentence)
