"""The whole data flow, as a user runs it: commands and servers, one run for many tests."""
