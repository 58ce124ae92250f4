"""Being asked to stop: by a person, a cluster or a cloud that wants its machine back."""

import signal
import threading


class Interrupted(KeyboardInterrupt):
    """A training ended early because it was asked to; it is saved. `number` is the signal's."""

    def __init__(self, number: int):
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number = number


class StopRequest:
    """Notes SIGTERM and SIGINT while it is open, so that work ends at a good place; a second one ends it at once.

    Outside the main thread, where Python hears no signals, it notes nothing.

    Attributes:
        number: The signal that was noted, or None.
    """

    _SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self):
        self.number = None
        self._before = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in self._SIGNALS}
        return self

    def __exit__(self, *exception):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        if self.number is not None:
            raise KeyboardInterrupt
        self.number = number
