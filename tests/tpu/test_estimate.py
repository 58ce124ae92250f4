"""Steps that the TPU compiler compiles, and steps that no TPU can run."""

import importlib.util
import types

import keras
import pytest
import tensorflow as tf
from helpers import tiny

from convzoo import layers
from convzoo.tpu import compiler, estimate
from convzoo.tpu.chips import CHIPS
from convzoo.tpu.lowering import NotForTPUError, lower, lower_step
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


@pytest.mark.needs_xla_cpu
@with_compiler
@pytest.mark.parametrize(
    ("variant", "layer"),
    [("", "block2_depthwise_conv"), ("regions", "block0_pointwise_conv"), ("segmentation", "block0_1_conv")],
)
def test_a_training_step_of_each_dynamic_layer(variant, layer):
    found = estimate.estimate(_config(variant), 4, CHIPS["v5e"], 16)
    assert layers.get_target() == "cpu"
    assert found.flops > 1e6
    assert 0 < found.cost_analysis_seconds < 0.1
    assert 0 < found.scheduled_seconds < 0.1
    assert found.roofline_seconds < found.cost_analysis_seconds
    assert 0 < found.cost_analysis_resolution < 1e-4
    assert 0.2 < found.bandwidth_bound_seconds / found.cost_analysis_seconds < 5
    assert found.loops == 0
    for name in ("weights", "optimizer", "ema", "temporaries", "code"):
        assert found.memory[name] > 1000
    assert 0 < found.memory_used < CHIPS["v5e"].memory
    costs = {cost.layer: cost for cost in found.layers}
    assert costs[layer].seconds > 0
    assert {"(update)", "(ema)"} <= set(costs)
    assert sum(cost.share for cost in found.layers) == pytest.approx(1)
    assert costs["(other)"].share < 0.25
    assert found.as_json()["images_per_second"]["cost_analysis"] == pytest.approx(16 / found.cost_analysis_seconds)
    assert found.hours(1000, 4)["scheduled"] == pytest.approx(1000 / 16 * found.scheduled_seconds / 4 / 3600)


def _of(function, *shape):
    return estimate.estimate_step(function, [tf.TensorSpec(shape, tf.bfloat16)], CHIPS["v5e"], shape[0])


def _product(a, b):
    return a @ b


@pytest.mark.needs_xla_cpu
@with_compiler
@pytest.mark.parametrize("name", CHIPS)
def test_a_chip_is_one_device(name):
    """A product takes the time that the chip's figures give it."""
    chip = CHIPS[name]
    specs = [tf.TensorSpec((4096, 4096), tf.bfloat16)] * 2
    assert compiler.compile_hlo(lower_step(_product, *specs), chip).devices == 4
    seconds = estimate.estimate_step(_product, specs, chip, 1).scheduled_seconds
    assert 0.7 < seconds / (2 * 4096**3 / chip.flops) < 1.6


@pytest.mark.needs_xla_cpu
@with_compiler
def test_programs_with_loops_have_no_times():
    found = _of(lambda images: tf.map_fn(lambda image: tf.nn.relu(image @ image), images), 8, 256, 256)
    assert found.loops == 1
    assert found.memory_used > 2 * 8 * 256 * 256
    assert set(found.seconds.values()) == {None}
    assert found.roofline_seconds is None
    assert found.images_per_second == found.hours(1000, 1) == {}


@pytest.mark.needs_xla_cpu
@with_compiler
def test_a_step_too_large_for_memory():
    with pytest.raises(compiler.DoesNotFitError, match="RESOURCE_EXHAUSTED"):
        _of(lambda x: (tf.nn.relu(x), tf.reduce_max(x)), 8, 1024, 1024, 1024)


@pytest.mark.needs_xla_cpu
@with_compiler
def test_layers_of_the_widths_of_large_networks():
    """Uneven groups, a loop over base kernels, a depthwise convolution with a 1x1: no tiny network has these."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    layers.set_target("tpu")
    try:
        images, mask = keras.Input((4, 4, 256), 8, "bfloat16"), keras.Input((4, 4, 8), 8, "float32")
        uneven, lean = layers.UnevenPointwiseConv2D(40), layers.LeanConv2D(256, padding="same")
        regions, shuffle = layers.DRConv2D(256, 1), layers.ChannelShuffle(2)
        model = keras.Model([images, mask], regions(shuffle(uneven(lean(images))), mask))
        implementations = [
            lean.choose_implementation(lean.input.shape),
            regions.choose_implementation((8, 4, 4, 40)),
            shuffle.choose_implementation("bfloat16"),
        ]
        assert implementations == ["split", "bank_loop", "product"]

        def step(x, mask):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.square(tf.cast(model([x, mask], training=True), tf.float32)))
            return tape.gradient(loss, [weight.value for weight in model.trainable_weights])

        specs = [tf.TensorSpec(given.shape, given.dtype) for given in (images, mask)]
        found = estimate.estimate_step(step, specs, CHIPS["v5e"], 8)
    finally:
        layers.set_target("cpu")
        keras.config.set_dtype_policy("float32")
    assert found.loops == 0
    assert 0 < found.cost_analysis_seconds < 1e-3
    assert 0 < found.scheduled_seconds < 1e-3


@pytest.mark.parametrize(
    ("total", "known", "scheduled", "without_cost", "seconds"),
    [
        (0.02, {}, 0.03, {}, 0.02),
        (0.02, {}, 0.45, {}, 0.02),  # such as a sort, whose schedule is many times its bytes
        (-2.98, {"X64Combine": 3}, 0.03, {"X64Combine": 3}, 0.02),
        (-2.98, {"X64Combine": 1}, 0.03, {"X64Combine": 1, "(others)": 2}, 0.02),
        (-0.98, {"X64Combine": 2}, 0.03, {"X64Combine": 2}, 0.02),  # one of them has a cost
        (-1.1, {"X64Combine": 2}, 1.1, {"X64Combine": 2}, 0.9),
        (-1.6, {"X64Combine": 2}, 1.1, {"X64Combine": 2, "(others)": 1}, None),
    ],
)
def test_operations_without_cost_are_counted_from_the_sum(total, known, scheduled, without_cost, seconds):
    found = estimate._correct_cost(total, known, scheduled)
    assert found == (without_cost, None if seconds is None else pytest.approx(seconds))


def test_the_largest_batch(monkeypatch):
    """Uses a fake chip that holds 43 examples, because compiling for a real one takes minutes."""
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
        config.gradient_accumulation_steps = 4
    assert estimate.largest_batch(config, 4, CHIPS["v5e"], 16) == 40

    def full(*arguments):
        raise compiler.DoesNotFitError("RESOURCE_EXHAUSTED")

    monkeypatch.setattr(estimate, "estimate", full)
    with pytest.raises(compiler.DoesNotFitError):
        estimate.largest_batch(config, 4, CHIPS["v5e"], 4)


def _decoded(images):
    encoded = tf.io.encode_jpeg(tf.cast(images[0], tf.uint8))
    return images + tf.cast(tf.io.decode_jpeg(encoded, channels=3), images.dtype)


def _of_a_size_from_data(images):
    return images + tf.reduce_sum(tf.zeros([tf.cast(tf.reduce_sum(images), tf.int32)]))


def _doubled_until_large(images):
    return tf.while_loop(lambda x: tf.reduce_sum(x) < 100, lambda x: [2 * x], [images])[0]


def _looked_up(images):
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer([1], [2.0]), 0.0)
    return images + table.lookup(tf.constant(1))


class Odd(keras.layers.Layer):
    """Calls a function that no TPU can run."""

    def __init__(self, compute, **kwargs):
        super().__init__(**kwargs)
        self.compute = compute

    def call(self, images):
        return self.compute(images)


@pytest.mark.needs_xla_cpu
@pytest.mark.parametrize(
    ("compute", "what", "message"),
    [
        (_decoded, "serve", r"XLA cannot compile (En|De)codeJpeg, used at .*thumbnail"),
        (_of_a_size_from_data, "train", r"node `\S*thumbnail\S*` with op Fill must be a compile-time constant"),
        (_doubled_until_large, "train", r"fixed tensor list size.*, at \S*thumbnail"),
        (lambda images: images + tf.boolean_mask(images, images[..., 0] > 0), "serve", r"shapes.*, at \S*thumbnail"),
        (_looked_up, "serve", "lookup table"),
    ],
)
def test_unsupported_op_is_named(monkeypatch, compute, what, message):
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(3, 1)(inputs)
    x = keras.layers.GlobalAveragePooling2D()(Odd(compute, name="thumbnail")(x))
    model = keras.Model(inputs, keras.layers.Dense(4)(x))
    monkeypatch.setattr(experiment, "build_model", lambda config, classes: model)
    with pytest.raises(NotForTPUError, match=message) as error:
        lower(_config(""), 4, 2, what)
    assert "\n" not in str(error.value)


@pytest.mark.needs_xla_cpu
@pytest.mark.parametrize(
    ("mode", "fields"),
    [
        ("train", {}),
        ("eval", {"eval_size": (24, 40), "eval_scales": (0.5, 1.0), "eval_flip": True}),
        ("eval", {"eval_size": (24, 40), "scale_jitter": (0.5, 2.0)}),
    ],
)
def test_segmentation_is_lowered(mode, fields):
    config = tiny.get_config("segmentation")
    for name, value in fields.items():
        (config.data if name == "scale_jitter" else config.segmentation)[name] = value
    if "scale_jitter" in fields:
        config.data.crop_area = None
    assert lower(config, 4, batch_size=2, mode=mode).hlo


@pytest.mark.needs_xla_cpu
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_verification_is_lowered(mode):
    assert lower(tiny.get_config("verification"), 7, batch_size=2, mode=mode).hlo


@pytest.mark.needs_xla_cpu
@pytest.mark.parametrize("what", ["train", "eval"])
@pytest.mark.parametrize("class_loss", ["focal", "hard_negative"])
def test_steps_of_a_detector_are_lowered(what, class_loss):
    config = tiny.get_config("detection")
    config.detection.class_loss = class_loss
    assert len(lower(config, 3, 4, what).hlo) > 10_000


@pytest.mark.needs_xla_cpu
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
    assert lowered.state_bytes["weights"] == sum(4 * weight.value.shape.num_elements() for weight in built[0].weights)
    assert ("optimizer" in lowered.state_bytes) == (what == "train")
