"""What all tests share: quiet logs, and nothing written outside the test's own folder."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import pytest


@pytest.fixture(autouse=True, scope="session")
def _data_sets_in_a_folder_of_the_tests(tmp_path_factory):
    """TensorFlow Datasets prepares what the tests use once a session, away from the user's own data sets."""
    before = os.environ.get("TFDS_DATA_DIR")
    os.environ["TFDS_DATA_DIR"] = str(tmp_path_factory.mktemp("tensorflow_datasets"))
    yield
    if before is None:
        del os.environ["TFDS_DATA_DIR"]
    else:
        os.environ["TFDS_DATA_DIR"] = before
