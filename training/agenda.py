"""At which steps the host looks at a training, and what it does there."""

import dataclasses
from collections.abc import Collection


@dataclasses.dataclass(frozen=True)
class Agenda:
    """The steps of a training that something happens at.

    Args:
        first_step: Step that this process goes on from.
        total_steps: Step that the training ends at.
        steps_per_loop: Steps between two lines of metrics.
        save_every: Steps between two checkpoints, whole loops.
        eval_every: Steps between two evaluations, whole loops; None for no evaluation.
        also: Further steps to stop at.
    """

    first_step: int
    total_steps: int
    steps_per_loop: int
    save_every: int
    eval_every: int | None
    also: Collection[int] = ()

    def next_stop(self, step: int) -> tuple[int, bool]:
        """The next step after `step` that the host looks at, and whether metrics are written there.

        They are at the same steps in a run that went on as in one that never stopped.
        """
        intervals = [self.steps_per_loop, self.save_every, self.eval_every]
        regular = min(self.total_steps, *((step // every + 1) * every for every in intervals if every))
        # The first step is made alone, because it compiles: its time would spoil the rate, and it shows a first loss.
        extra = [stop for stop in (self.first_step + 1, *self.also) if step < stop < regular]
        if not extra:
            return regular, True
        return min(extra), min(extra) == 1

    def evaluates(self, step: int) -> bool:
        """Whether there is an evaluation after so many steps."""
        return bool(self.eval_every) and (step == self.total_steps or step % self.eval_every == 0)

    def saves(self, step: int) -> bool:
        """Whether there is a checkpoint after so many steps, whatever the clock says."""
        return step == self.total_steps or step % self.save_every == 0
