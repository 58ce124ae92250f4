"""The options after a generated source's name, such as `size=64,examples=100`."""

from convzoo.errors import DataError


def parse_options(spec, text, defaults):
    """Returns a dict like `defaults` with the values in `text`.

    Args:
        spec: The whole source string, for messages.
        text: str `NAME=N,NAME=N`, or empty.
        defaults: dict of every option's name to its default.

    Raises:
        DataError: An option is unknown or not a positive integer.
    """
    values = dict(defaults)
    for option in filter(None, text.split(",")):
        name, _, value = option.partition("=")
        if name not in values or not value.isdecimal() or int(value) == 0:
            available = ", ".join(f"{name}=N" for name in defaults)
            raise DataError(f"source {spec!r}: {option!r} is not one of {available} with N at least 1")
        values[name] = int(value)
    return values
