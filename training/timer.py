"""Where the time of a run goes."""

import contextlib
import time
from collections.abc import Callable, Iterator


class RunTimer:
    """Adds up the seconds of a run by activity.

    Args:
        num_replicas: Number of devices that the run occupies.
        device_hours: Device hours of the earlier processes of the run.
        clock: Returns the time in seconds; tests replace it.
    """

    def __init__(self, num_replicas: int, device_hours: float = 0.0, clock: Callable[[], float] = time.perf_counter):
        self._num_replicas, self._earlier_hours, self._clock = num_replicas, device_hours, clock
        self._start = clock()
        self._seconds = {"input": 0.0, "save": 0.0, "evaluate": 0.0}

    def add(self, activity: str, seconds: float) -> None:
        """Adds seconds to an activity: "input", "save" or "evaluate"."""
        self._seconds[activity] += seconds

    @contextlib.contextmanager
    def measure(self, activity: str) -> Iterator[None]:
        """Adds the duration of the block to an activity."""
        start = self._clock()
        try:
            yield
        finally:
            self.add(activity, self._clock() - start)

    def metrics(self, steps: int, seconds: float, batch_size: int, steps_left: int) -> dict[str, float]:
        """Returns the "time/" metrics of a line of metrics.jsonl.

        Args:
            steps: Number of the latest steps.
            seconds: Their duration.
            batch_size: Examples of a global batch.
            steps_left: Number of steps to the end of the run.

        Returns:
            "step_seconds" and "images_per_second_per_replica" of the latest steps; "input_share", "save_share" and
            "evaluate_share" of the time since this process started training; "hours_left" at the speed of the latest
            steps, saving and evaluating included; "device_hours" of the whole run, replicas times hours. On GPUs and on
            TPUs from v4 on, a replica is a chip.
        """
        elapsed = self._clock() - self._start
        shares = {f"{activity}_share": spent / elapsed for activity, spent in self._seconds.items()}
        training_share = 1.0 - shares["save_share"] - shares["evaluate_share"]
        return {
            "step_seconds": seconds / steps,
            "images_per_second_per_replica": steps * batch_size / seconds / self._num_replicas,
            **shares,
            "hours_left": steps_left * seconds / steps / training_share / 3600,
            "device_hours": self._earlier_hours + self._num_replicas * elapsed / 3600,
        }
