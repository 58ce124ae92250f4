"""Shared by all tests: quiet logs, and no files outside the folder of the test."""

import functools
import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import pytest

# Traced graphs are many long-lived objects: with the default thresholds, collections take a tenth of the time.
gc.set_threshold(20_000, 20, 20)


@functools.cache
def _has_xla_for_cpu():
    import tensorflow as tf

    try:
        tf.function(lambda x: x + 1.0, jit_compile=True)(tf.constant(1.0))
    except (tf.errors.NotFoundError, tf.errors.InvalidArgumentError):
        return False
    return True


def pytest_runtest_setup(item):
    """Skips tests that need XLA for the CPU, for example for grouped convolutions, if TensorFlow lacks it."""
    if item.get_closest_marker("needs_xla_cpu") and not _has_xla_for_cpu():
        pytest.skip("this TensorFlow, like the tensorflow-tpu wheel, has no XLA for the CPU")


def pytest_itemcollected(item):
    """Gives the tests that share a fixture of their module to one process, so that only one sets it up."""
    fixtures = getattr(item, "_fixtureinfo", None)
    if fixtures and any(defs[-1].scope == "module" for defs in fixtures.name2fixturedefs.values()):
        item.add_marker(pytest.mark.xdist_group(item.module.__name__))


@pytest.fixture(autouse=True, scope="session")
def _data_sets_in_a_folder_of_the_tests(tmp_path_factory):
    """Prepares TFDS datasets once per session, in a folder apart from the user's datasets."""
    before = os.environ.get("TFDS_DATA_DIR")
    os.environ["TFDS_DATA_DIR"] = str(tmp_path_factory.mktemp("tensorflow_datasets"))
    yield
    if before is None:
        del os.environ["TFDS_DATA_DIR"]
    else:
        os.environ["TFDS_DATA_DIR"] = before


@pytest.fixture(autouse=True, scope="session")
def _graphs_without_optimization():
    """Leaves out TensorFlow's graph optimizer, which takes longer than it saves in graphs that run a few times.

    Programs that tests start in processes of their own keep it.
    """
    if os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow":
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


@pytest.fixture
def broken_compiler(tmp_path):
    """Environment variables with which the process of the TPU compiler crashes."""
    broken = tmp_path / "broken"
    (broken / "jax").mkdir(parents=True)
    (broken / "jax" / "__init__.py").write_text("raise RuntimeError('JAX is broken')\n")
    return {"PYTHONPATH": str(broken)}
