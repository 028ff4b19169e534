"""The one exception a user is meant to read.

A `MolarError` carries one line that says what is wrong, where, and what to do about it. The command line
prints that line and exits with status 1; anything else that escapes is a bug of ours and keeps its traceback.
"""


class MolarError(Exception):
    """A mistake in the input, the params or the machine, told in one line."""
