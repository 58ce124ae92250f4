"""Tables in Markdown files, between two marker lines."""

import tensorflow as tf

from convzoo.errors import ConfigError, first_line
from convzoo.files import read_text, write_text


def check_markers(path: str, name: str) -> None:
    """Raises ConfigError unless the file exists and has the two markers that `write_between` needs."""
    _split(path, name)


def write_between(path: str, name: str, table: str) -> None:
    """Replaces the text between the lines `<!-- name -->` and `<!-- /name -->` of a file by `table`.

    Raises:
        ConfigError: The file cannot be read, or does not contain each marker exactly once and in this order.
    """
    before, after = _split(path, name)
    write_text(path, f"{before}<!-- {name} -->\n{table}<!-- /{name} -->{after}")


def quantity(number: float) -> str:
    """Formats a number of multiply-adds or parameters with four significant digits.

    Example:
        >>> quantity(5_288_548), quantity(4_089_184_256)
        ('5.289 M', '4.089 G')
    """
    return f"{number / 1e6:#.4g} M" if number < 1e9 else f"{number / 1e9:#.4g} G"


def _split(path, name):
    """Returns the text before the first marker and the text after the second."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    try:
        text = read_text(path)
    except (tf.errors.OpError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path!r} ({first_line(error)}); give a Markdown file") from error
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ConfigError(
            f"{path!r} must contain the line {begin} and after it the line {end}, each once; add them where the table "
            "belongs"
        )
    return text.split(begin)[0], text.split(end)[1]
