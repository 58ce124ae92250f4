"""The compiled loop over steps: what it adds up, and the time that it waits for input."""

import time

import numpy as np
import pytest
import tensorflow as tf

from convzoo.training.steps import Steps, no_sums


def _slow(seconds, value):
    """`value`, some time later."""
    if not seconds:
        return value
    done = tf.numpy_function(lambda: time.sleep(seconds) or np.float32(0), [], tf.float32)
    with tf.control_dependencies([done]):
        return tf.identity(value)


def _steps(input_seconds=0.0, step_seconds=0.0, times_input=True, losses=(1.0,)):
    """What so many steps on a batch of two examples each return, and the seconds that they take."""
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    iterations = tf.Variable(0, dtype=tf.int64)

    def step(batch):
        loss = tf.gather(tf.constant(losses), tf.cast(iterations, tf.int32) % len(losses))
        count = iterations.assign_add(1)
        with tf.control_dependencies([count]):
            return {"loss": _slow(step_seconds, loss), "correct": tf.reduce_sum(tf.cast(batch["label"], tf.float32))}

    def dataset(context):
        endless = tf.data.Dataset.from_tensors({"label": tf.constant([1, 2])}).repeat()
        return endless.map(lambda batch: {"label": _slow(input_seconds, batch["label"])})

    steps = Steps(strategy, step, iterations, times_input)
    iterator = iter(strategy.distribute_datasets_from_function(dataset))
    sums, _, _ = steps(iterator, 1, no_sums())  # compiles
    start = time.perf_counter()
    sums, bad_step, waited = steps(iterator, 5, sums)
    return {name: float(value) for name, value in sums.items()}, bad_step, waited / (time.perf_counter() - start)


def test_sums_and_a_loss_that_is_lost():
    sums, bad_step, _ = _steps(losses=(1.0, 2.0, 3.0, 4.0, 5.0, 6.0))
    assert sums == {"loss": 21.0, "correct": 18.0}
    assert bad_step == -1
    assert _steps(losses=(1.0, 2.0, float("inf"), 4.0, float("nan"), 6.0))[1] == 2


@pytest.mark.parametrize(
    ("input_seconds", "step_seconds", "least", "most"),
    [
        (0.4, 0.0, 0.5, 1.0),
        (0.0, 0.4, 0.0, 0.4),
        (0.2, 0.4, 0.0, 0.4),  # fetched while the step before runs
        (0.8, 0.4, 0.2, 0.8),  # so that half of the time is left to wait
    ],
)
def test_the_wait_for_input(input_seconds, step_seconds, least, most):
    share = _steps(input_seconds, step_seconds)[2]
    assert least <= share <= most


def test_no_clock_is_read():
    assert _steps(0.1, 0.0, times_input=False)[2] == 0.0
