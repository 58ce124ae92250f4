"""Shared by all tests: quiet logs, and no files outside the folder of the test."""

import importlib.metadata
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import pytest

# What TensorFlow says where it has no XLA for the host, as in the wheel for TPUs. Keras compiles grouped convolutions.
_NO_XLA = "could not find registered transfer manager for platform Host"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """In the wheel for TPUs a test that needs XLA for the CPU is skipped, and only there."""
    report = yield
    if report.failed and _NO_XLA in str(report.longrepr) and _is_wheel_for_tpus():
        report.outcome = "skipped"
        report.longrepr = (str(item.path), 0, "Skipped: this wheel of TensorFlow has no XLA for the CPU")
    return report


def _is_wheel_for_tpus():
    names = importlib.metadata.packages_distributions().get("tensorflow", ())
    return any(name.replace("_", "-") == "tensorflow-tpu" for name in names)


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


@pytest.fixture
def broken_compiler(tmp_path):
    """Environment variables with which the process of the TPU compiler crashes."""
    broken = tmp_path / "broken"
    (broken / "jax").mkdir(parents=True)
    (broken / "jax" / "__init__.py").write_text("raise RuntimeError('JAX is broken')\n")
    return {"PYTHONPATH": str(broken)}
