"""Checks networks against the TPU kernels of TensorFlow. Run whole with TENSORFLOW=tpu ./scripts/test.sh."""

import importlib.metadata
import importlib.util

import keras
import pytest
import tensorflow as tf
from helpers import tiny
from helpers.programs import run, usage_error

from convzoo import layers
from convzoo.tpu import kernel_support
from convzoo.training import experiment

HAS_KERNELS = importlib.util.find_spec("libtpu") is not None and any(
    name.lower().replace("_", "-") == "tensorflow-tpu"
    for name in importlib.metadata.packages_distributions()["tensorflow"]
)
tpu_wheel = pytest.mark.skipif(not HAS_KERNELS, reason="this wheel of TensorFlow has no kernels for TPUs")


@tpu_wheel
def test_tpu_wheel_is_recognized():
    kernel_support.check_tpu_wheel()


@tpu_wheel
@pytest.mark.parametrize("variant", ["", "regions"])
def test_networks_are_legal(variant):
    layers.set_target("tpu")
    try:
        config = tiny.get_config(variant)
        model = experiment.build_model(config, 4, precision="mixed_bfloat16")
    finally:
        layers.set_target("cpu")
    assert kernel_support.find_problem(model) is None


@tpu_wheel
def test_op_without_kernel_is_named():
    inputs = keras.Input((8, 8, 3))
    enlarged = keras.layers.Resizing(16, 16, "bicubic", name="enlarge")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(enlarged)))
    assert "no TPU kernel for ResizeBicubic" in kernel_support.find_problem(model)


@pytest.mark.skipif(HAS_KERNELS, reason="this wheel of TensorFlow has kernels for TPUs")
def test_cpu_wheel_is_rejected():
    line = usage_error(run("benchmarks/tpu_kernels.py", "--networks=shufflenet_v2_x0_5"))
    assert f"TensorFlow {tf.__version__} has no TPU kernels" in line
    assert "benchmarks/tpu_kernels.sh" in line


def test_unknown_network():
    assert "no network matches --networks=nothing" in usage_error(
        run("benchmarks/tpu_kernels.py", "--networks=nothing")
    )
