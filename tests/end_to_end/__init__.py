"""The whole road, as a user walks it: commands and servers, one run that many sentences read."""
