"""Tables that programs write into Markdown files, between two marker lines."""

import tensorflow as tf

from convzoo.training.config import ConfigError, first_line
from convzoo.training.files import read_text, write_text


def check_markers(path: str, name: str) -> None:
    """Raises ConfigError unless `write_between` could write."""
    _split(path, name)


def write_between(path: str, name: str, table: str) -> None:
    """Writes `table` into the file between the lines `<!-- name -->` and `<!-- /name -->`, for what was there.

    Raises:
        ConfigError: There is no such file, or the two lines are not there, once each and in this order.
    """
    before, after = _split(path, name)
    write_text(path, f"{before}<!-- {name} -->\n{table}<!-- /{name} -->{after}")


def quantity(number: float) -> str:
    """A number of multiply-adds or parameters to four digits, as "5.289 M"."""
    return f"{number / 1e6:#.4g} M" if number < 1e9 else f"{number / 1e9:#.4g} G"


def _split(path, name):
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    try:
        text = read_text(path)
    except (tf.errors.OpError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path!r} ({first_line(error)}); give a Markdown file") from error
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ConfigError(
            f"{path!r} needs one line {begin} and after it one line {end}; write them where the table shall be"
        )
    return text.split(begin)[0], text.split(end)[1]
