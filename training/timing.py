"""Timings of several calls side by side."""

import time
from collections.abc import Callable


def turn_about(
    calls: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each call in each round, by `clock`.

    Each round makes every call once, every second round in the opposite order, so that what else the machine does slows
    all of them alike. A call must wait for its own result; the first one, which compiles, must have been made before.
    """
    seconds = {name: [] for name in calls}
    for number in range(rounds):
        for name in reversed(calls) if number % 2 else calls:
            start = clock()
            calls[name]()
            seconds[name].append(clock() - start)
    return seconds
