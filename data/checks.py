"""The range check that `Augmentation` and the pipelines share."""

import math
import numbers

from convzoo.errors import DataError


def check_setting(name, value, *, low=None, above=None, high=None, integer=False, length=None):
    """Raises DataError unless a setting is a finite number within its bounds, or a sequence of such numbers.

    Args:
        name: Name of the setting, for the message.
        value: Number; with `length`, a tuple or list.
        low: Smallest valid number, or None.
        above: Number that a valid one exceeds, or None.
        high: Largest valid number, or None.
        integer: Whether only integers are valid.
        length: Number of elements of a sequence; None for a single number.
    """
    kind = numbers.Integral if integer else numbers.Real

    def is_valid(number):
        return (
            isinstance(number, kind)
            and not isinstance(number, bool)
            and math.isfinite(number)
            and (low is None or number >= low)
            and (above is None or number > above)
            and (high is None or number <= high)
        )

    elements = [value] if length is None else value
    if length is not None and not (isinstance(value, tuple | list) and len(value) == length):
        elements = [None]
    if not all(map(is_valid, elements)):
        noun = "integer" if integer else "number"
        expected = f"a finite {noun}" if length is None else f"{length} finite {noun}s"
        bounds = {"at least": low, "above": above, "at most": high}
        limits = " and ".join(f"{words} {bound}" for words, bound in bounds.items() if bound is not None)
        raise DataError(f"{name}={value!r} is not {expected}{' ' * bool(limits)}{limits}")
