"""The steps at which training returns to the host, to log, evaluate or save."""

import dataclasses
from collections.abc import Collection


@dataclasses.dataclass(frozen=True)
class Intervals:
    """Schedule of the host's work.

    Attributes:
        first_step: Number of steps made before this process started.
        total_steps: Number of steps at the end of the run.
        steps_per_loop: Steps between two lines of metrics. The first step of a process is a call of its own.
        save_every: Steps between two checkpoints, a multiple of `steps_per_loop`.
        eval_every: Steps between two evaluations, a multiple of `steps_per_loop`; None for no evaluation.
        extra_stops: Further steps at which to return to the host.
    """

    first_step: int
    total_steps: int
    steps_per_loop: int
    save_every: int
    eval_every: int | None
    extra_stops: Collection[int] = ()

    def next_stop(self, step: int) -> tuple[int, bool]:
        """Returns the next step after `step` at which to return to the host, and whether to write metrics there.

        Metrics are written at the same steps in an interrupted and resumed run as in an uninterrupted one.

        Example:
            >>> Intervals(0, 100, 10, 20, None).next_stop(1)
            (10, True)
        """
        periods = [self.steps_per_loop, self.save_every, self.eval_every]
        regular = min(self.total_steps, *((step // period + 1) * period for period in periods if period))
        # The first step runs alone: it includes compilation, which would distort the speed, and shows a first loss.
        extra = [stop for stop in (self.first_step + 1, *self.extra_stops) if step < stop < regular]
        return (min(extra), min(extra) == 1) if extra else (regular, True)

    def is_eval_step(self, step: int) -> bool:
        """Returns whether to evaluate after `step` steps."""
        return bool(self.eval_every) and (step == self.total_steps or step % self.eval_every == 0)

    def is_save_step(self, step: int) -> bool:
        """Returns whether to save a checkpoint after `step` steps."""
        return step == self.total_steps or step % self.save_every == 0
