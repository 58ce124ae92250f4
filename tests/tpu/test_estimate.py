"""Steps compiled by the TPU compiler, and those that no TPU runs."""

import importlib.util
import types

import keras
import pytest
import tensorflow as tf
from helpers import tiny

from convzoo import layers
from convzoo.tpu import compiler, estimate
from convzoo.tpu.chips import CHIPS
from convzoo.tpu.lowering import NotForTPUError, lower
from convzoo.training import experiment

with_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None or importlib.util.find_spec("jax") is None,
    reason="the extra [tpu-compile] is not installed",
)


def _config(variant):
    config = tiny.get_config(variant)
    with config.unlocked():
        config.precision = "mixed_bfloat16"
    return config


@with_compiler
@pytest.mark.parametrize(
    ("variant", "layer"),
    [("", "block2_depthwise_conv"), ("regions", "block0_pointwise_conv"), ("segmentation", "block0_1_conv")],
)
def test_a_training_step_of_each_dynamic_layer(variant, layer):
    found = estimate.estimate(_config(variant), 4, CHIPS["v5e"], 16)
    assert layers.get_target() == "cpu"
    assert found.flops > 1e6
    assert 0 < found.cost_seconds < 0.1
    assert 0 < found.scheduled_seconds < 0.1
    assert found.floor_seconds < found.cost_seconds
    assert 0 < found.cost_resolution < 1e-4
    assert 0.2 < found.bytes_seconds / found.cost_seconds < 5
    assert found.unclear == []
    for name in ("weights", "optimizer", "average", "temporaries", "code"):
        assert found.memory[name] > 1000
    assert 0 < found.memory_used < CHIPS["v5e"].memory
    parts = {part.layer: part for part in found.parts}
    assert parts[layer].seconds > 0
    assert {"(update)", "(average)"} <= set(parts)
    assert sum(part.share for part in found.parts) == pytest.approx(1)
    assert parts["(other)"].share < 0.25
    assert found.as_json()["images_per_second"]["by_cost"] == pytest.approx(16 / found.cost_seconds)
    assert found.hours(1000, 4)["by_schedule"] == pytest.approx(1000 / 16 * found.scheduled_seconds / 4 / 3600)


def test_the_largest_batch(monkeypatch):
    """Of a chip on which 43 fit, because filling a real one takes minutes to compile."""
    tried = []

    def pretend(config, classes, chip, batch, what):
        tried.append(batch)
        if batch > 43:
            raise compiler.DoesNotFitError("RESOURCE_EXHAUSTED")
        return types.SimpleNamespace(memory_used=batch)

    monkeypatch.setattr(estimate, "estimate", pretend)
    config = _config("")
    for begin, fits in ((1, None), (16, None), (16, True), (43, None), (1000, None), (1000, False), (1, False)):
        assert 43 - 43 // 8 <= estimate.largest_batch(config, 4, CHIPS["v5e"], begin, fits=fits) <= 43
    assert len(tried) < 60
    with config.unlocked():
        config.gradient_accumulation = 4
    assert estimate.largest_batch(config, 4, CHIPS["v5e"], 16) == 40

    def full(*arguments):
        raise compiler.DoesNotFitError("RESOURCE_EXHAUSTED")

    monkeypatch.setattr(estimate, "estimate", full)
    with pytest.raises(compiler.DoesNotFitError):
        estimate.largest_batch(config, 4, CHIPS["v5e"], 4)


class DecodesJPEG(keras.layers.Layer):
    """Has no place on a TPU."""

    def call(self, images):
        del self
        encoded = tf.io.encode_jpeg(tf.cast(images[0], tf.uint8))
        return images + tf.cast(tf.io.decode_jpeg(encoded, channels=3), images.dtype)


def test_what_no_tpu_runs_is_named(monkeypatch):
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.GlobalAveragePooling2D()(DecodesJPEG(name="thumbnail")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(4)(x))
    monkeypatch.setattr(experiment, "build_model", lambda config, classes: model)
    with pytest.raises(NotForTPUError, match=r"XLA cannot compile (En|De)codeJpeg, used at .*thumbnail"):
        lower(_config(""), 4, 2, "serve")


@pytest.mark.parametrize("what", ["train", "eval", "serve"])
def test_a_step_is_lowered_for_a_tpu(what, monkeypatch):
    built, build_model = [], experiment.build_model

    def build(config, classes):
        assert layers.get_target() == "tpu"
        built.append(build_model(config, classes))
        return built[-1]

    monkeypatch.setattr(experiment, "build_model", build)
    lowered = lower(_config(""), 4, 8, what)
    assert layers.get_target() == "cpu"
    assert len(lowered.hlo) > 10_000
    assert lowered.sizes["weights"] == sum(4 * weight.value.shape.num_elements() for weight in built[0].weights)
    assert ("optimizer" in lowered.sizes) == (what == "train")
