"""Layers with one argument: they make their own routing weights or mask, as any Keras layer in any kind of model."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from helpers.run_layer_test import run_layer_test

from convzoo import layers, models

# (function that makes the layer from further arguments, output shape for images())
LAYERS = {
    "condconv": (lambda **kwargs: layers.CondConv2D(6, 3, num_experts=3, **kwargs), (4, 4, 3, 6)),
    "condconv_pointwise": (lambda **kwargs: layers.CondConv2D(6, 1, num_experts=3, **kwargs), (4, 6, 5, 6)),
    "depthwise": (lambda **kwargs: layers.DepthwiseCondConv2D(3, num_experts=3, **kwargs), (4, 4, 3, 4)),
    "drconv": (lambda **kwargs: layers.DRConv2D(6, 1, regions=3, strides=2, **kwargs), (4, 3, 3, 6)),
    "drconv_3x3": (lambda **kwargs: layers.DRConv2D(6, 3, regions=3, padding="same", **kwargs), (4, 6, 5, 6)),
    "uneven": (lambda **kwargs: layers.UnevenPointwiseConv2D(8, (1, 3), **kwargs), (4, 6, 5, 8)),
    "lean": (lambda **kwargs: layers.LeanConv2D(8, padding="same", **kwargs), (4, 6, 5, 8)),
}


def images():
    return np.random.default_rng(0).normal(size=(4, 6, 5, 4)).astype("float32")


@pytest.mark.needs_xla_cpu
@pytest.mark.parametrize("name", LAYERS)
def test_one_argument_in_a_functional_model(name):
    make_layer, output_shape = LAYERS[name]
    run_layer_test(make_layer, images(), output_shape=output_shape, tolerance=3e-5)


def test_own_routing_computes_what_a_shared_one_does():
    routing, conv = layers.ExpertRouting(3), layers.CondConv2D(6, 3, num_experts=3)
    expected = conv(images(), routing(images()))
    alone = layers.CondConv2D(6, 3, num_experts=3)
    alone.build(images().shape)
    alone.set_weights([*conv.get_weights(), *routing.get_weights()])
    np.testing.assert_allclose(alone(images()), expected, atol=1e-6)


def test_own_mask_computes_what_a_shared_one_does():
    mask, conv = layers.GuidedMask(3), layers.DRConv2D(6, 1, regions=3)
    expected = conv(images(), mask(images()))
    alone = layers.DRConv2D(6, 1, regions=3)
    alone.build(images().shape)
    alone.set_weights([*conv.get_weights(), *mask.get_weights()])
    np.testing.assert_allclose(alone(images()), expected, atol=1e-6)


def test_an_explicit_argument_replaces_the_own_routing():
    conv = layers.CondConv2D(6, 3, num_experts=2)
    conv(images())
    first = np.eye(2, dtype="float32")[[0] * 4]
    expected = keras.ops.conv(images(), conv.kernel[0], padding="valid")
    np.testing.assert_allclose(conv(images(), first), expected, atol=1e-5)


def _sequential():
    stack = [keras.Input((6, 5, 4)), layers.CondConv2D(8, 3, num_experts=2, padding="same")]
    stack += [layers.DepthwiseCondConv2D(3, num_experts=2, padding="same"), layers.DRConv2D(8, 1, regions=2)]
    stack += [layers.UnevenPointwiseConv2D(8, (1, 3)), layers.LeanConv2D(8, padding="same")]
    return keras.Sequential([*stack, keras.layers.GlobalAveragePooling2D(), layers.CondDense(3, num_experts=2)])


@keras.saving.register_keras_serializable(package="convzoo_tests")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv, self.regions = layers.CondConv2D(8, 3, num_experts=2), layers.DRConv2D(3, 1, regions=2)

    def call(self, inputs):
        return keras.ops.mean(self.regions(self.conv(inputs)), axis=(1, 2))


@pytest.mark.parametrize("make", [_sequential, Subclassed], ids=["sequential", "subclassed"])
def test_training_saving_and_loading(make, tmp_path):
    model = make()
    model.compile("adam", "mse")
    model.fit(images(), np.ones((4, 3), "float32"), epochs=1, verbose=0)
    path = str(tmp_path / "model.keras")
    model.save(path)
    loaded = keras.models.load_model(path)
    np.testing.assert_allclose(loaded.predict(images(), verbose=0), model.predict(images(), verbose=0), atol=1e-5)
    names = {weight.path.split("/", 1)[1] for weight in model.weights}
    assert any("routing" in name for name in names)
    assert any("guided_mask" in name for name in names)


@pytest.mark.parametrize("imports", ["import convzoo, keras", "import keras, convzoo"])
def test_a_process_that_only_imports_convzoo_loads_a_model_file(imports, tmp_path):
    model = _sequential()
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images())
    code = f"""{imports}
import numpy as np
model = keras.models.load_model("model.keras")
np.save("outputs.npy", model.predict(np.load("images.npy"), verbose=0))
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, timeout=300)
    np.testing.assert_allclose(np.load(tmp_path / "outputs.npy"), model.predict(images(), verbose=0), atol=1e-5)


@pytest.mark.parametrize("name", ["condconv", "depthwise", "drconv"])
def test_a_frozen_layer_has_a_frozen_routing_and_mask(name):
    make_layer, _ = LAYERS[name]
    before, after = make_layer(trainable=False), make_layer()
    after(images())
    assert after.trainable_weights
    after.trainable = False
    before(images())
    assert before.weights
    assert not before.trainable_weights
    assert not after.trainable_weights


def test_importing_convzoo_starts_no_framework():
    code = "import sys, convzoo; assert not {'keras', 'tensorflow', 'jax'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_own_routing_and_mask_are_counted(data_format):
    shape = (6, 5, 4) if data_format == "channels_last" else (4, 6, 5)
    x = keras.Input(shape)
    cond = keras.Model(x, layers.CondConv2D(6, 3, num_experts=3, data_format=data_format)(x))
    # 12 positions, 216 weights per expert, 3 experts to mix, and a routing layer of 4 x 3.
    assert models.count(cond).madds == 12 * 216 + 3 * 216 + 12
    region = keras.Model(x, layers.DRConv2D(6, 1, regions=3, bank_size=2, strides=2, data_format=data_format)(x))
    # 9 positions of 24 weights, 3 x 2 base kernels, routing of 4 x 6, and a mask of 30 positions and 4 x 3 weights.
    assert models.count(region).madds == 9 * 24 + 3 * 2 * 24 + 24 + 30 * 12
