"""Where a run's time goes."""

import contextlib
import time
from collections.abc import Callable, Iterator


class RunClock:
    """Adds up the seconds of a run by what they were spent on.

    Args:
        num_replicas: Devices that the run holds.
        device_hours: Those of the run before it went on.
        now: A clock in seconds, for tests.
    """

    def __init__(self, num_replicas: int, device_hours: float = 0.0, now: Callable[[], float] = time.perf_counter):
        self._num_replicas, self._hours_before, self._now = num_replicas, device_hours, now
        self._start = now()
        self._spent = {"input": 0.0, "save": 0.0, "evaluate": 0.0}

    def add(self, what: str, seconds: float) -> None:
        """Seconds that passed by "input", "save" or "evaluate"."""
        self._spent[what] += seconds

    @contextlib.contextmanager
    def spends(self, what: str) -> Iterator[None]:
        """Adds the seconds that its block takes."""
        start = self._now()
        try:
            yield
        finally:
            self.add(what, self._now() - start)

    def scalars(self, steps: int, seconds: float, batch_size: int, steps_left: int) -> dict[str, float]:
        """What metrics.jsonl has of time.

        Args:
            steps: The last steps, in a row.
            seconds: What they took.
            batch_size: Of all replicas together.
            steps_left: Of the run.

        Returns:
            "step_seconds" and "images_per_second_per_replica" of the last steps; "input_share", "save_share" and
            "evaluate_share" of all seconds since this process began to train; "hours_left" if all goes on like the
            last steps, saving and evaluating included; "device_hours" of the run, replicas times hours, earlier
            processes' included: chip-hours where a replica is a chip, as on GPUs and TPUs from v4 on.
        """
        passed = self._now() - self._start
        shares = {f"{what}_share": spent / passed for what, spent in self._spent.items()}
        of_training = 1.0 - shares["save_share"] - shares["evaluate_share"]
        return {
            "step_seconds": seconds / steps,
            "images_per_second_per_replica": steps * batch_size / seconds / self._num_replicas,
            **shares,
            "hours_left": steps_left * seconds / steps / of_training / 3600,
            "device_hours": self._hours_before + self._num_replicas * passed / 3600,
        }
