"""Optimizers, schedules and the moving average against the published formulas in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import tiny

from convzoo.training.ema import MovingAverage
from convzoo.training.optimizers import RMSPropTF1, make_optimizer
from convzoo.training.schedules import WarmUp, make_schedule


def test_rmsprop_as_tensorflow_1_computes_it():
    draw = np.random.default_rng(0)
    variable = keras.Variable(draw.normal(size=(3, 2)).astype("float32"))
    optimizer = RMSPropTF1(0.1, rho=0.9, momentum=0.8, epsilon=1e-3)
    optimizer.build([variable])
    want, mean_square, momentum = variable.numpy(), np.ones((3, 2)), np.zeros((3, 2))
    for _ in range(5):
        gradient = draw.normal(size=(3, 2)).astype("float32")
        optimizer.apply([tf.constant(gradient)], [variable])
        mean_square = 0.9 * mean_square + 0.1 * gradient**2
        momentum = 0.8 * momentum + 0.1 * gradient / np.sqrt(mean_square + 1e-3)
        want = want - momentum
    np.testing.assert_allclose(variable.numpy(), want, rtol=1e-5, atol=1e-6)


def test_nesterov_momentum():
    config = tiny.get_config()
    config.optimizer.name = "sgd"
    variable = keras.Variable(np.array([1.0], "float32"))
    optimizer = make_optimizer(config, keras.optimizers.schedules.PiecewiseConstantDecay([0], [0.1, 0.1]))
    optimizer.build([variable])
    want, velocity = 1.0, 0.0
    for gradient in (1.0, -0.5, 0.25):
        optimizer.apply([tf.constant([gradient])], [variable])
        velocity = 0.9 * velocity - 0.1 * gradient
        want += 0.9 * velocity - 0.1 * gradient
    assert variable.numpy()[0] == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        # 20 steps, 10 an epoch, peak 0.01, warm-up over 5 steps: the schedule itself starts at step 0.
        ("constant", {0: 0.0, 1: 0.002, 5: 0.01, 19: 0.01}),
        ("linear", {0: 0.0, 1: 0.002, 4: 0.008, 5: 0.0075, 10: 0.005, 20: 0.0}),
        ("cosine", {0: 0.0, 5: 0.005 * (1 + np.cos(np.pi / 4)), 10: 0.005, 20: 0.0}),
        ("exponential", {0: 0.0, 5: 0.01, 11: 0.01, 12: 0.005, 19: 0.005}),
        ("step", {0: 0.0, 5: 0.01, 11: 0.01, 12: 0.005, 14: 0.005, 15: 0.0025, 20: 0.0025}),
    ],
)
def test_schedules_with_warm_up(name, rates):
    config = tiny.get_config()
    config.schedule.name = name
    config.schedule.decay_epochs, config.schedule.decay_rate = 1.2, 0.5
    config.schedule.milestones = (1.2, 1.5)
    schedule = make_schedule(config, total_steps=20, steps_per_epoch=10.0)
    for step, rate in rates.items():
        assert float(schedule(step)) == pytest.approx(rate, abs=1e-8), step


def test_schedule_round_trip():
    schedule = WarmUp(keras.optimizers.schedules.CosineDecay(0.1, 100), 0.1, 10)
    again = WarmUp.from_config(schedule.get_config())
    assert [float(again(step)) for step in (3, 50)] == [float(schedule(step)) for step in (3, 50)]


def test_moving_average_ramps_up_and_follows_statistics_too():
    model = keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization()])
    average = MovingAverage(model, decay=0.5)
    assert set(average.variables) == {weight.path for weight in model.weights}
    statistic = next(weight for weight in model.weights if weight.path.endswith("moving_mean"))
    want = np.zeros(2)
    for step in range(12):
        statistic.assign([step + 1.0, -step])
        average.update(tf.constant(step))
        keep = min(0.5, (1 + step) / (10 + step))
        want = keep * want + (1 - keep) * np.array([step + 1.0, -step])
    np.testing.assert_allclose(average.variables[statistic.path].numpy(), want, rtol=1e-5)
