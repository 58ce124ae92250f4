"""Times several functions in alternation."""

import time
from collections.abc import Callable


def time_alternating(
    calls: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Returns the seconds of each call in each round.

    Each round makes every call once, every second round in reverse order, so that other load on the machine slows all
    calls alike.

    Args:
        calls: Functions by name. A function must wait for its result, and must have been called once to compile it.
        rounds: Number of rounds.
        clock: Returns the current time in seconds.
    """
    seconds = {name: [] for name in calls}
    for number in range(rounds):
        for name in reversed(calls) if number % 2 else calls:
            start = clock()
            calls[name]()
            seconds[name].append(clock() - start)
    return seconds
