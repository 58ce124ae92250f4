"""What arguments of layers must be."""


def positive(value, name):
    """`value` if it is a positive integer."""
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} {value!r} is not a positive integer")
    return value
