"""Optimizers, schedules and the moving average against the published formulas in NumPy."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import tiny

from convzoo import layers
from convzoo.configs.fields import OPTIMIZER_DEFAULTS
from convzoo.errors import ConfigError
from convzoo.tasks import TASKS
from convzoo.tpu.lowering import lower_step
from convzoo.training.checkpoint_manager import CheckpointManager
from convzoo.training.ema import MovingAverage
from convzoo.training.experiment import build_model
from convzoo.training.optimizers import Muon, RMSPropTF1, make_optimizer, set_weight_decay
from convzoo.training.schedules import CoolDown, ReciprocalSqrt, WarmUp, make_schedule
from convzoo.training.state import TrainState
from convzoo.training.train_step import step_settings, train_step

_RATE, _DECAY = 0.05, 0.1


def _network(policy="float32"):
    keras.utils.set_random_seed(3)
    keras.config.set_dtype_policy(policy)
    inputs = keras.Input((4, 4, 2))
    x = keras.layers.Conv2D(6, 3, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.DepthwiseConv2D(2, name="depthwise")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(5, name="head_dense", dtype="float32")(x))
    keras.config.set_dtype_policy("float32")
    for weight in model.trainable_weights:
        weight.assign_add(keras.random.normal(weight.shape, stddev=0.1, seed=len(weight.path)))  # no zeros
    return model


def _config(name):
    config = tiny.get_config()
    config.optimizer.name = name
    config.weight_decay, config.weight_decay_on = _DECAY, ("kernels",)
    return config


def _state(config, model, rate=_RATE):
    optimizer = make_optimizer(config, keras.optimizers.schedules.PiecewiseConstantDecay([0], [rate, rate]))
    optimizer.build(model.trainable_weights)
    set_weight_decay(optimizer, model, config)
    if config.precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale")
        optimizer.build(model.trainable_weights)
    return TrainState(model, optimizer)


def _batch():
    rng = np.random.default_rng(1)
    images = tf.constant(rng.normal(size=(8, 4, 4, 2)).astype("float32"))
    return {"image": images, "label": tf.constant(rng.integers(0, 5, 8), tf.int32)}


# One update of a weight in float64, from weight, gradient, slots (a dict), step from 1, rate, weight decay, and whether
# it is a kernel (LARS, LAMB) or gets the update of Muon.


def _adam(w, g, slots, step, rate, decay, is_kernel, epsilon=1e-7):
    slots["m"] = 0.9 * slots.get("m", 0) + 0.1 * g
    slots["v"] = 0.999 * slots.get("v", 0) + 0.001 * g**2
    # Keras adds epsilon to the root before its correction for the first steps.
    root = (np.sqrt(slots["v"]) + epsilon) / np.sqrt(1 - 0.999**step)
    return w - rate * decay * w - rate * slots["m"] / (1 - 0.9**step) / root


def _lamb(w, g, slots, step, rate, decay, is_kernel):
    slots["m"] = 0.9 * slots.get("m", 0) + 0.1 * g
    slots["v"] = 0.999 * slots.get("v", 0) + 0.001 * g**2
    update = slots["m"] / (1 - 0.9**step) / (np.sqrt(slots["v"] / (1 - 0.999**step)) + 1e-6) + decay * w
    return w - rate * (np.linalg.norm(w) / np.linalg.norm(update) if is_kernel else 1.0) * update


def _lars(w, g, slots, step, rate, decay, is_kernel):
    local = 0.001 * np.linalg.norm(w) / (np.linalg.norm(g) + decay * np.linalg.norm(w)) if is_kernel else 1.0
    slots["v"] = 0.9 * slots.get("v", 0) + rate * local * (g + decay * w)
    return w - slots["v"]


def _lion(w, g, slots, step, rate, decay, is_kernel):
    update = np.sign(0.9 * slots.get("m", 0) + 0.1 * g)
    slots["m"] = 0.99 * slots.get("m", 0) + 0.01 * g
    return w - rate * decay * w - rate * update


def _muon(w, g, slots, step, rate, decay, is_kernel):
    if not is_kernel:
        return _adam(w, g, slots, step, rate, decay, is_kernel)
    slots["m"] = 0.95 * slots.get("m", 0) + g
    x = (g + 0.95 * slots["m"]).reshape(-1, w.shape[-1])
    x /= np.linalg.norm(x)
    for _ in range(5):
        x = 3.4445 * x - 4.775 * x @ x.T @ x + 2.0315 * x @ x.T @ x @ x.T @ x
    singular_values = np.linalg.svd(x, compute_uv=False)
    assert 0.6 < singular_values.min() <= singular_values.max() < 1.3
    return w - rate * decay * w - rate * 0.2 * np.sqrt(max(x.shape)) * x.reshape(w.shape)


def _decoupled_sgd(w, g, slots, step, rate, decay, is_kernel):
    slots["v"] = 0.9 * slots.get("v", 0) - rate * g
    return w - rate * decay * w + 0.9 * slots["v"] - rate * g


@pytest.mark.parametrize(
    ("name", "update", "kernels"),
    [
        ("adamw", _adam, ()),
        ("lamb", _lamb, ("conv/kernel", "depthwise/kernel", "head_dense/kernel")),
        ("lars", _lars, ("conv/kernel", "depthwise/kernel", "head_dense/kernel")),
        ("lion", _lion, ()),
        ("muon", _muon, ("conv/kernel",)),
        ("sgd", _decoupled_sgd, ()),
    ],
)
def test_updates_against_the_formulas(name, update, kernels):
    """With a learning-rate multiplier for one kernel, weight decay of kernels, and a factor on one of their decays."""
    config, model = _config(name), _network()
    config.optimizer.decoupled_weight_decay = True if name == "sgd" else None
    config.weight_decay_multipliers = (("conv/*", 3.0),)
    optimizer = _state(config, model).optimizer
    optimizer.scale_learning_rate([model.get_layer("conv").kernel], 0.5)
    weights = model.trainable_weights
    expected, slots = {w.path: w.numpy().astype(np.float64) for w in weights}, {w.path: {} for w in weights}
    rng = np.random.default_rng(0)
    for step in (1, 2, 3):
        gradients = [rng.normal(size=weight.shape).astype("float32") for weight in weights]
        optimizer.apply([tf.constant(gradient) for gradient in gradients], weights)
        for weight, gradient in zip(weights, gradients, strict=True):
            path, rate = weight.path, _RATE * (0.5 if weight.path == "conv/kernel" else 1.0)
            decay = _DECAY * (3.0 if path == "conv/kernel" else 1.0) if path.endswith("/kernel") else 0.0
            new = update(expected[path], gradient.astype(float), slots[path], step, rate, decay, path in kernels)
            expected[path] = new
            np.testing.assert_allclose(weight.numpy(), new, rtol=1e-4, atol=1e-5, err_msg=f"{path} {step}")


def test_lars_and_lamb_with_a_weight_of_zeros():
    for name, expected in (("lars", -_RATE), ("lamb", -_RATE)):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, kernel_initializer="zeros", name="dense")])
        optimizer = _state(_config(name), model).optimizer
        optimizer.apply([tf.ones(weight.shape) for weight in model.trainable_weights], model.trainable_weights)
        for weight in model.weights:
            np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-4, err_msg=name)


def test_muon_updates_each_expert_alone():
    rng = np.random.default_rng(0)
    values, gradients = rng.normal(size=(2, 2, 3, 3, 4, 5)).astype("float32")
    together = keras.Variable(values, name="kernel")
    apart = [keras.Variable(value, name="kernel") for value in values]
    excluded = keras.Variable(values[0], name="kernel_depthwise")
    optimizer = Muon(0.1, exclude_layers=("nothing",))
    optimizer.build([together, *apart, excluded])
    assert [optimizer.uses_muon(variable) for variable in (together, *apart, excluded)] == [True, True, True, False]
    optimizer.apply([tf.constant(g) for g in (gradients, *gradients, gradients[0])], [together, *apart, excluded])
    assert len(optimizer.variables) == 2 + 4 + 1  # iteration, learning rate, four momenta, one mean square
    np.testing.assert_allclose(together.numpy(), [variable.numpy() for variable in apart], atol=1e-6)


def _train(state, config, count):
    for _ in range(count):
        train_step(state, _batch(), **step_settings(config, TASKS["classification"]))
    return {name: variable.numpy() for name, variable in state.variables().items()}


@pytest.mark.parametrize("name", [*OPTIMIZER_DEFAULTS, "float16"])
def test_a_resumed_run_equals_an_uninterrupted_one(name, tmp_path):
    config = _config("adamw" if name == "float16" else name)
    config.batch_size, config.label_smoothing = 8, 0.0
    if name == "float16":  # the scale of the loss is in the checkpoint
        config.precision = "mixed_float16"
    state = _state(config, _network(config.precision))
    manager = CheckpointManager(str(tmp_path), state.variables(), keep=1)
    if name == "float16":
        state.optimizer.dynamic_scale.assign(2.0**7)
    _train(state, config, 2)
    manager.save(2)
    manager.close()
    expected = _train(state, config, 2)
    state = _state(config, _network(config.precision))
    CheckpointManager(str(tmp_path), state.variables(), keep=1).restore_newest()
    resumed = _train(state, config, 2)
    assert resumed.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(resumed[path], value, err_msg=path)
    assert resumed["optimizer/iteration"] == 4
    if name == "float16":
        assert resumed["optimizer/dynamic_scale"] == 2.0**7


@pytest.mark.needs_xla_cpu
@pytest.mark.parametrize("name", OPTIMIZER_DEFAULTS)
def test_a_step_lowers_for_a_tpu(name):
    config = _config(name)
    config.batch_size, config.gradient_accumulation_steps, config.clip_norm = 8, 2, 1.0
    state = _state(config, _network())
    step = functools.partial(train_step, state, **step_settings(config, TASKS["classification"]))
    image, label = tf.TensorSpec((8, 4, 4, 2), name="image"), tf.TensorSpec((8,), tf.int32, "label")
    assert lower_step(lambda image, label: step({"image": image, "label": label}), image, label)


@pytest.mark.parametrize("name", ["lamb", "muon"])
def test_accumulation_clipping_and_moving_average(name):
    results = []
    for parts in (1, 4):
        config, model = _config(name), _network()
        model.get_layer("norm").trainable = False  # otherwise each part has its own batch statistics
        config.batch_size, config.gradient_accumulation_steps, config.clip_norm = 8, parts, 1e-3
        state = _state(config, model)
        state = TrainState(model, state.optimizer, MovingAverage(model, 0.9))
        results.append(_train(state, config, 2))
    assert any(path.startswith("ema/") for path in results[0])
    for path, value in results[0].items():
        np.testing.assert_allclose(results[1][path], value, rtol=1e-3, atol=1e-5, err_msg=path)


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
        ("cosine_restarts", {0: 0.0, 5: 0.005, 8: 0.005 * (1 + np.cos(0.8 * np.pi)), 10: 0.01, 15: 0.005}),
        ("rsqrt", {0: 0.0, 1: 0.002, 5: 0.01, 9: 0.01 / np.sqrt(2), 17: 0.005}),
    ],
)
def test_schedules_with_warm_up(name, rates):
    config = tiny.get_config()
    config.schedule.name, config.schedule.cycle_epochs, config.schedule.timescale_epochs = name, 1.0, 0.4
    config.schedule.decay_epochs, config.schedule.decay_rate = 1.2, 0.5
    config.schedule.milestones = (1.2, 1.5)
    schedule = make_schedule(config, total_steps=20, steps_per_epoch=10.0)
    for step, rate in rates.items():
        assert float(schedule(step)) == pytest.approx(rate, abs=1e-8), step


def test_cool_down():
    config = tiny.get_config()
    config.schedule.name, config.schedule.warmup_epochs, config.schedule.cooldown_epochs = "constant", 0.0, 0.4
    schedule = make_schedule(config, total_steps=20, steps_per_epoch=10.0)
    for step, rate in {0: 0.01, 16: 0.01, 17: 0.0075, 19: 0.0025, 20: 0.0}.items():
        assert float(schedule(step)) == pytest.approx(rate, abs=1e-8), step


def test_schedule_round_trip():
    schedule = CoolDown(WarmUp(ReciprocalSqrt(0.1, 20, 10), 0.1, 10), 100, 60)
    again = CoolDown.from_config(schedule.get_config())
    assert [float(again(step)) for step in (3, 50)] == [float(schedule(step)) for step in (3, 50)]


def test_a_gradient_that_overflows_in_float16_skips_the_step():
    config, model = _config("adamw"), _network()
    config.precision, config.batch_size = "mixed_float16", 8
    state = _state(config, model)
    before = _train(state, config, 0)
    batch = {**_batch(), "image": tf.fill((8, 4, 4, 2), 1e38)}  # products in float32 overflow, the scaled loss does not
    train_step(state, batch, **step_settings(config, TASKS["classification"]))
    after = {name: variable.numpy() for name, variable in state.variables().items()}
    changed = {path for path in before if not np.array_equal(before[path], after[path], equal_nan=True)}
    statistics = {path for path in changed if "moving_" in path}
    assert changed - statistics == {"optimizer/iteration", "optimizer/dynamic_scale"}
    assert after["optimizer/iteration"] == 1
    assert after["optimizer/dynamic_scale"] == before["optimizer/dynamic_scale"] / 2


def test_float16_is_refused_for_a_tpu():
    config = _config("adamw")
    config.precision = "mixed_float16"
    layers.set_target("tpu")
    try:
        with pytest.raises(ConfigError, match=r"mixed_float16.*TPU.*mixed_bfloat16"):
            build_model(config, 4)
    finally:
        layers.set_target("cpu")


def test_the_scale_of_the_loss_does_not_change_the_update():
    results = []
    for scale in (1.0, 2.0**20):
        config, model = _config("adamw"), _network()
        config.precision, config.batch_size, config.clip_norm = "mixed_float16", 8, 0.5
        state = _state(config, model)
        state.optimizer.dynamic_scale.assign(scale)
        results.append(_train(state, config, 2))
        assert results[-1].pop("optimizer/dynamic_scale") == scale
    for path, value in results[0].items():
        np.testing.assert_allclose(results[1][path], value, rtol=1e-5, atol=1e-7, err_msg=path)


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
