"""One training step: its loss, what the penalty reaches, accumulation and clipping."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import tiny

from convzoo import layers
from convzoo.training.ema import MovingAverage
from convzoo.training.experiment import build_model
from convzoo.training.optimizers import RMSPropTF1
from convzoo.training.step import TrainStep
from convzoo.training.tasks import cross_entropy


def _network(seed=3):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4, 4, 1))
    x = keras.layers.Conv2D(3, 3, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(5, name="dense")(x))


def _batch(size=8):
    draw = np.random.default_rng(1)
    return {
        "image": tf.constant(draw.normal(size=(size, 4, 4, 1)).astype("float32")),
        "label": tf.constant(draw.integers(0, 5, size), tf.int32),
    }


def _step(model, **settings):
    optimizer = keras.optimizers.SGD(0.5)
    optimizer.build(model.trainable_weights)
    return TrainStep(model, optimizer, batch_size=8, **settings)


def test_cross_entropy_with_smoothing():
    logits = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    labels = np.array([1, 0, 3])
    target = np.full((3, 4), 0.2 / 4)
    target[np.arange(3), labels] += 0.8
    log_softmax = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    want = -(target * log_softmax).sum(-1)
    np.testing.assert_allclose(cross_entropy(tf.constant(labels), tf.constant(logits), 0.2), want, rtol=1e-5)


def test_the_penalty_is_part_of_the_loss_and_spares_batch_normalisation():
    plain, decayed, batch = _network(), _network(), _batch()
    before = {weight.path: weight.numpy() for weight in plain.weights}
    _step(plain)(batch)
    _step(decayed, weight_decay=0.1)(batch)
    for with_penalty, without in zip(decayed.trainable_weights, plain.trainable_weights, strict=True):
        path = with_penalty.path
        penalty = 0.0 if path.startswith("norm") else 0.5 * 0.1 * before[path]
        np.testing.assert_allclose(with_penalty.numpy(), without.numpy() - penalty, atol=1e-6, err_msg=path)


def test_accumulated_parts_give_the_whole_batch():
    # Frozen statistics: parts are normalised by themselves otherwise.
    whole, parts, batch = _network(), _network(), _batch()
    for model in (whole, parts):
        model.get_layer("norm").trainable = False
    sums = _step(whole)(batch), _step(parts, parts=4)(batch)
    for name in sums[0]:
        np.testing.assert_allclose(sums[0][name], sums[1][name], rtol=1e-5)
    for one, other in zip(whole.weights, parts.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-6)


def test_clipping_bounds_the_global_norm():
    model, batch = _network(), _batch()
    before = [weight.numpy() for weight in model.trainable_weights]
    _step(model, clip_norm=0.01)(batch)
    changes = [weight.numpy() - old for weight, old in zip(model.trainable_weights, before, strict=True)]
    norm = np.sqrt(sum((change**2).sum() for change in changes))
    np.testing.assert_allclose(norm, 0.5 * 0.01, rtol=1e-4)  # learning rate times bound


def test_sums_are_those_before_the_update():
    model, batch = _network(), _batch()
    logits = model(batch["image"], training=True)
    want = float(tf.reduce_sum(cross_entropy(batch["label"], logits)))
    right = int(tf.reduce_sum(tf.cast(tf.equal(tf.argmax(logits, -1, tf.int32), batch["label"]), tf.int32)))
    sums = _step(_network())(batch)
    np.testing.assert_allclose(sums["loss"], want, rtol=1e-5)
    assert int(sums["correct"]) == right


@pytest.mark.parametrize("variant", ["", "regions"])
def test_the_step_compiles_as_a_tpu_would_have_it(variant):
    """XLA refuses what a TPU refuses too: sequential loops over an unknown batch, operations without a kernel."""
    config = tiny.get_config(variant)
    if not variant:
        config.model.overrides.update({"dropout_rate": 0.0, "survival_prob": 1.0})  # XLA draws other numbers
    batch = {"image": tf.random.stateless_normal((4, 16, 16, 3), (1, 2)), "label": tf.constant([0, 1, 2, 3])}
    losses = {}
    try:
        for target, compiled in (("cpu", False), ("tpu", True)):
            layers.set_target(target)
            keras.utils.set_random_seed(0)
            model = build_model(config, 4)
            optimizer = RMSPropTF1(0.01, momentum=0.9)
            optimizer.build(model.trainable_weights)
            step = TrainStep(
                model, optimizer, MovingAverage(model, 0.9), batch_size=4, weight_decay=1e-4, clip_norm=1.0
            )
            step = tf.function(step, jit_compile=compiled)
            losses[target] = [float(step(batch)["loss"]) for _ in range(3)]
    finally:
        layers.set_target("cpu")
    np.testing.assert_allclose(losses["tpu"], losses["cpu"], rtol=1e-3)
    assert losses["tpu"][2] < losses["tpu"][0]
