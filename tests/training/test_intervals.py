"""Steps at which the host runs evaluations, checkpoints and logs."""

import pytest

from convzoo.training.intervals import Intervals


def _stops(intervals, step):
    while step < intervals.total_steps:
        step, is_line = intervals.next_stop(step)
        yield step, is_line


@pytest.mark.parametrize(
    ("first", "extra_stops", "lines", "others"),
    [
        (0, (), [1, 4, 6, 8, 12, 14], []),
        (4, (), [6, 8, 12, 14], [5]),
        (5, (), [6, 8, 12, 14], []),  # the step that compiles is one that has a line
        (0, (1, 9, 12, 20), [1, 4, 6, 8, 12, 14], [9]),
        (14, (), [], []),
    ],
)
def test_lines_are_at_the_same_steps_wherever_a_run_went_on(first, extra_stops, lines, others):
    intervals = Intervals(first, 14, steps_per_loop=4, save_every=6, eval_every=None, extra_stops=extra_stops)
    stops = list(_stops(intervals, first))
    assert [step for step, is_line in stops if is_line] == lines
    assert [step for step, is_line in stops if not is_line] == others


def test_commands_and_hosts():
    intervals = Intervals(0, 14, steps_per_loop=2, save_every=4, eval_every=6)
    assert [step for step, _ in _stops(intervals, 0) if intervals.is_save_step(step)] == [4, 8, 12, 14]
    assert [step for step, _ in _stops(intervals, 0) if intervals.is_eval_step(step)] == [6, 12, 14]
    assert not Intervals(0, 14, 2, 4, None).is_eval_step(14)
