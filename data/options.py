"""The options after a generated source's name, such as `size=64,examples=100`."""

from convzoo.errors import DataError

_LARGEST = {"classes": 1_000_000, "first": 1_000_000_000, "size": 8192, "examples": 1_000_000_000}


def parse_options(spec, text, defaults):
    """Returns a dict like `defaults` with the values in `text`.

    Args:
        spec: The whole source string, for messages.
        text: str `NAME=N,NAME=N`, or empty.
        defaults: dict of every option's name to its default.

    Raises:
        DataError: An option is unknown, not a positive integer or above its limit.
    """
    values = dict(defaults)
    for option in filter(None, text.split(",")):
        name, _, value = option.partition("=")
        if name not in values or not value.isdecimal() or int(value) == 0:
            available = ", ".join(f"{name}=N" for name in defaults)
            raise DataError(f"source {spec!r}: {option!r} is not one of {available} with N at least 1")
        if int(value) > _LARGEST[name]:
            raise DataError(f"source {spec!r}: {name}={value} is above {_LARGEST[name]:,}; use less")
        values[name] = int(value)
    return values
