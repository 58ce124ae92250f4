"""Timings of several calls side by side."""

import time
from collections.abc import Callable


def turn_about(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call in each round.

    Each round makes every call once, every second round in the opposite order, so that what else the machine does slows
    all of them alike. A call must wait for its own result; the first one, which compiles, must have been made before.
    """
    seconds = {name: [] for name in calls}
    for number in range(rounds):
        for name in reversed(calls) if number % 2 else calls:
            start = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds
