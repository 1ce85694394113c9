"""The errors that end a command with one line.

Raised where the cause is known, with the file or option in the text; `cli.py` alone turns them into a line on stderr
and an exit code: 2 for an `OptionError`, 1 for all others. Anything else that escapes a command is a defect of kitsam
and keeps its traceback.
"""


class KitsamError(Exception):
    """Something the user can mend: the message names the file or the option."""

    exit_code = 1
    is_told = False  # by the main process, so that this one need not say it again


class OptionError(KitsamError):
    """What the command line asks for cannot be, and nothing was done yet: a missing path, options that do not fit."""

    exit_code = 2


class CaseError(KitsamError):
    """A scan or a label volume that cannot be used."""


class ShardError(KitsamError):
    """A shard, a sidecar or a manifest that is missing, damaged or made for something else."""
