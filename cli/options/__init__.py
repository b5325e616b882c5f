"""The options of each command, and how what is typed there is read.

A file for each group of commands, as `--help` has them; `of_NAME` adds the options of the command
NAME to its parser. Those that several share are in `common`.
"""
