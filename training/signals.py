"""Signals that ask a run to stop, from a user, a scheduler or a cloud that preempts the machine."""

import signal
import threading


class Interrupted(KeyboardInterrupt):
    """Training stopped early because of a signal, after saving a checkpoint. `number` is the signal's number."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class StopRequest:
    """Context manager that records SIGTERM, SIGINT and SIGHUP (a closed terminal): training can stop between steps.

    A second signal raises KeyboardInterrupt at once. Outside the main thread, where Python delivers no signals, it
    records nothing.

    Attributes:
        number: Number of the recorded signal, or None.
    """

    _SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def __init__(self):
        self.number = None
        self._previous_handlers = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self._previous_handlers = {number: signal.signal(number, self._record) for number in self._SIGNALS}
        return self

    def __exit__(self, *exception):
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)

    def _record(self, number, frame):
        if self.number is not None:
            raise KeyboardInterrupt
        self.number = number
