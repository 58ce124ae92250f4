"""Small data sets of every kind, written once a session."""

import gzip

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from convzoo import data


def _idx(array):
    """The bytes of an IDX file of unsigned bytes."""
    return b"\0\0\x08" + bytes([array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


@pytest.fixture(scope="session")
def write_idx():
    """write(folder, {"train": (images, labels), "t10k": ...}, compressed): files in the format of MNIST."""

    def write(folder, arrays, compressed):
        folder.mkdir(exist_ok=True)
        for prefix, (images, labels) in arrays.items():
            for name, array in ((f"{prefix}-images-idx3-ubyte", images), (f"{prefix}-labels-idx1-ubyte", labels)):
                if compressed:
                    (folder / f"{name}.gz").write_bytes(gzip.compress(_idx(array)))
                else:
                    (folder / name).write_bytes(_idx(array))
        return folder

    return write


@pytest.fixture(scope="session")
def idx_arrays():
    """Two splits of 6x5 noise; every image of train is another one, so that an image names its index."""
    rng = np.random.default_rng(0)
    return {
        "train": (rng.integers(0, 256, (23, 6, 5), np.uint8), (np.arange(23) % 4).astype(np.uint8)),
        "t10k": (rng.integers(0, 256, (7, 6, 5), np.uint8), (np.arange(7) % 3).astype(np.uint8)),
    }


@pytest.fixture(scope="session")
def idx_folder(tmp_path_factory, write_idx, idx_arrays):
    return write_idx(tmp_path_factory.mktemp("idx"), idx_arrays, compressed=False)


@pytest.fixture(scope="session")
def digits():
    return data.open_source("digits")


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory):
    """train/{cat,dog,eel}, test/{cat,dog}: JPEG and PNG, RGB, gray and RGBA, all of different sizes."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(1)
    number = 0
    for split, classes in {"train": {"dog": 4, "cat": 5, "eel": 3}, "test": {"dog": 2, "cat": 3}}.items():
        for name, count in classes.items():
            (root / split / name).mkdir(parents=True)
            for _ in range(count):
                number += 1
                shape = (16 + number, 40 - number)
                mode, ending, channels = [("RGB", "JPEG", 3), ("L", "jpg", 1), ("RGBA", "png", 4), ("L", "PNG", 1)][
                    number % 4
                ]
                pixels = rng.integers(0, 256, (*shape, channels), np.uint8)
                Image.fromarray(pixels.squeeze() if channels == 1 else pixels, mode).save(
                    root / split / name / f"{number}.{ending}"
                )
    (root / ".cache" / "x").mkdir(parents=True)
    (root / "train" / "cat" / "notes.txt").write_text("no image")
    return root


@pytest.fixture(scope="session")
def write_records():
    """write(folder, {"train": [5, 0, 11], "test": [4]}): TFRecord files in ImageNet's classic layout.

    Record i of a split, over its files, has label i % 3 + 1 and a gray PNG of 1x2 pixels, i // 256 and i % 256.
    """

    def write(folder, counts):
        folder.mkdir(exist_ok=True)
        for split, of_files in counts.items():
            number = 0
            for index, count in enumerate(of_files):
                path = folder / f"{split}-{index:05d}-of-{len(of_files):05d}"
                with tf.io.TFRecordWriter(str(path)) as writer:
                    for _ in range(count):
                        pixels = np.array([divmod(number, 256)], np.uint8)[..., np.newaxis]
                        png, label = tf.io.encode_png(pixels).numpy(), number % 3 + 1
                        features = {
                            "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[png])),
                            "image/height": tf.train.Feature(int64_list=tf.train.Int64List(value=[1])),
                            "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                        }
                        example = tf.train.Example(features=tf.train.Features(feature=features))
                        writer.write(example.SerializeToString())
                        number += 1
        return folder

    return write


@pytest.fixture
def settings():
    """Arguments of every pipeline; pixels stay unchanged, so that tests recognize images."""
    return {"image_size": (6, 5), "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "interpolation": "bilinear"}


@pytest.fixture(autouse=True)
def _no_seed_left_behind():
    """tf.random.set_seed of one test must not reach the next."""
    yield
    tf.random.set_seed(12345)
