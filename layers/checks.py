"""Validation of layer arguments."""


def positive(value: int, name: str) -> int:
    """Returns `value` if it is a positive integer, else raises ValueError."""
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}={value!r} is invalid; use a positive integer")
    return value


def valid_or_same(padding: str) -> None:
    """Raises ValueError for explicit padding, (before, after) per axis, which `keras.layers.Conv2D` accepts."""
    if padding not in ("valid", "same"):
        raise ValueError(f"padding={padding!r} is invalid; use 'valid' or 'same'")
