"""Errors that a user can cause and correct. Programs print them as one line and exit with their status."""

import re

_MAX_CHARACTERS = 300


class UserError(Exception):
    """Base class of all errors that are reported as one line: what is wrong, the value, and what to do.

    Attributes:
        exit_status: Exit status of a program that ends with this error.
    """

    exit_status = 2


class ConfigError(UserError, ValueError):
    """The config, a flag, or the working directory is invalid or contradicts another one."""


class DataError(UserError, ValueError):
    """A dataset, split or input setting is missing, corrupt or invalid."""


class ModelError(UserError, ValueError):
    """A network cannot be built as requested, or weights do not fit it."""


class TrainingError(UserError, RuntimeError):
    """Training diverged: the loss or the weights are not finite."""

    exit_status = 3


class UnavailableError(UserError, RuntimeError):
    """Something the program needs is not available now, such as disk space, a worker, a data server or a TPU.

    The same command can succeed later.
    """

    exit_status = 1


class WriteError(UnavailableError, OSError):
    """A file of a run cannot be written.

    Args:
        what: What was being written, for example "checkpoint of step 100".
        reason: Why it failed.
    """

    def __init__(self, what: str, reason: str):
        super().__init__(f"cannot write the {what} ({reason})")
        self.what, self.reason = what, reason


def first_line(error: BaseException) -> str:
    """Returns the first line of another library's error, at most 300 characters, for use inside a message.

    The markers that TensorFlow adds about graph nodes and op names are removed. The type of the error is prepended
    where the text alone does not say what happened.

    Example:
        >>> first_line(ValueError("bad value\\nand a second line"))
        'bad value'
        >>> first_line(KeyError("label"))
        "KeyError: 'label'"
    """
    text = re.sub(r"\{\{[^{}]*\}\}|\[Op:\w*\].*", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    prefix = f"{type(error).__name__}: " if isinstance(error, (LookupError, AssertionError)) else ""
    return f"{prefix}{lines[0]}"[:_MAX_CHARACTERS]
