"""The one error of this package."""

import re


class DataError(ValueError):
    """A data set, split or setting that cannot work: one line with what, its value and what to do."""


def one_line(error):
    """The first line of another library's error, short enough to stand inside ours.

    Args:
        error: the exception.

    Returns:
        str: `TypeName: first line`, at most 300 characters.
    """
    # TensorFlow says between braces in which node of a graph, and in brackets in which operation, it was.
    text = re.sub(r"\{\{[^{}]*\}\}|\[Op:\w*\].*", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:300]
