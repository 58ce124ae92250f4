"""Where a run's time goes, by a clock that the test moves."""

import pytest

from convzoo.training.timer import RunTimer


def test_pixel_shares():
    time = [1000.0]
    timer = RunTimer(num_replicas=4, device_hours=2.0, clock=lambda: time[0])
    time[0] += 60.0  # ten steps
    timer.add("input", 9.0)
    with timer.measure("evaluate"):
        time[0] += 30.0
    with timer.measure("save"):
        time[0] += 10.0
    times = timer.metrics(steps=10, seconds=60.0, batch_size=32, steps_left=90)
    assert times == pytest.approx(
        {
            "step_seconds": 6.0,
            "images_per_second_per_replica": 320 / 60 / 4,
            "input_share": 0.09,
            "save_share": 0.1,
            "evaluate_share": 0.3,
            # 90 steps of 6 seconds are 60 % of what is left.
            "hours_left": 90 * 6 / 0.6 / 3600,
            "device_hours": 2.0 + 4 * 100 / 3600,
        }
    )
