"""The exceptions that a user is meant to read."""


class UserError(ValueError):
    """What the user asked for cannot be done; the message is one line that names the option and what would be right.

    The command line prints it without a traceback and exits with status 2. Anything else that is raised is a bug.
    """


class MissingError(UserError, KeyError):
    """Something that was named is not there."""

    __str__ = UserError.__str__


class Interrupted(UserError):
    """The user stopped the program and nothing was lost; the message says how to go on."""
