"""What TensorFlow's own kernels for TPUs say. Run whole with TENSORFLOW=tpu ./scripts/test.sh."""

import importlib.metadata
import importlib.util

import keras
import pytest
import tensorflow as tf
from helpers import tiny
from helpers.programs import complaint, run

from convzoo import layers
from convzoo.tpu import bridge
from convzoo.training import experiment

HAS_KERNELS = importlib.util.find_spec("libtpu") is not None and any(
    name.lower().replace("_", "-") == "tensorflow-tpu"
    for name in importlib.metadata.packages_distributions()["tensorflow"]
)
tpu_wheel = pytest.mark.skipif(not HAS_KERNELS, reason="this wheel of TensorFlow has no kernels for TPUs")


@tpu_wheel
def test_the_wheel_for_tpus_is_known():
    bridge.check_wheel()


@tpu_wheel
@pytest.mark.parametrize("variant", ["", "regions"])
def test_networks_are_legal(variant):
    layers.set_target("tpu")
    try:
        config = tiny.get_config(variant)
        model = experiment.build_model(config, 4, precision="mixed_bfloat16")
    finally:
        layers.set_target("cpu")
    assert bridge.problem_of(model) is None


@tpu_wheel
def test_what_is_not_legal_is_named():
    inputs = keras.Input((8, 8, 3))
    enlarged = keras.layers.Resizing(16, 16, "bicubic", name="enlarge")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(enlarged)))
    assert "no TPU kernel for ResizeBicubic" in bridge.problem_of(model)


@pytest.mark.skipif(HAS_KERNELS, reason="this wheel of TensorFlow has kernels for TPUs")
def test_the_ordinary_wheel_is_told():
    line = complaint(run("scripts/tpu_ops.py", "--networks=shufflenet_v2_x0_5"))
    assert f"TensorFlow {tf.__version__} here has no kernels for TPUs" in line
    assert "scripts/tpu_ops.sh" in line


def test_no_such_network():
    assert "no network is called --networks=nothing" in complaint(run("scripts/tpu_ops.py", "--networks=nothing"))
