"""The options behind a generated source's name, as `size=64,examples=100`."""

from convzoo.data.errors import DataError


def whole_numbers(spec, text, defaults):
    """The values of `text` over `defaults`.

    Args:
        spec: str, the whole source string, for messages.
        text: str, `NAME=N,NAME=N` or empty.
        defaults: dict of every option's name to its value.

    Returns:
        dict like `defaults`.

    Raises:
        DataError: an option is unknown or not a positive whole number.
    """
    values = dict(defaults)
    for option in filter(None, text.split(",")):
        name, _, value = option.partition("=")
        if name not in values or not value.isdecimal() or int(value) == 0:
            known = ", ".join(f"{name}=N" for name in defaults)
            raise DataError(f"source {spec!r}: {option!r} is not one of {known} with N at least 1")
        values[name] = int(value)
    return values
