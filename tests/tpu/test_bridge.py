"""What TensorFlow's own kernels for TPUs say. Run whole with TENSORFLOW=tpu ./scripts/test.sh."""

import keras
import pytest
import tensorflow as tf
from helpers import tiny
from helpers.programs import complaint, run

from convzoo import layers
from convzoo.tpu import bridge
from convzoo.training import experiment
from convzoo.training.config import ConfigError


def _has_kernels():
    try:
        bridge.check_wheel()
    except ConfigError:
        return False
    return True


tpu_wheel = pytest.mark.skipif(not _has_kernels(), reason="this wheel of TensorFlow has no kernels for TPUs")


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
    assert "no operation ResizeBicubic" in bridge.problem_of(model)


@pytest.mark.skipif(_has_kernels(), reason="this wheel of TensorFlow has kernels for TPUs")
def test_the_ordinary_wheel_is_told():
    line = complaint(run("scripts/tpu_ops.py", "--networks=shufflenet_v2_x0_5"))
    assert f"TensorFlow {tf.__version__} here has no kernels for TPUs" in line
    assert "scripts/tpu_ops.sh" in line


def test_no_such_network():
    assert "no network is called --networks=nothing" in complaint(run("scripts/tpu_ops.py", "--networks=nothing"))
