"""Folders in the format of MNIST."""

import gzip

import numpy as np
import pytest

from convzoo import data
from convzoo.errors import DataError


@pytest.mark.parametrize("compressed", [False, True])
def test_reads_its_own_files(tmp_path, write_idx, idx_arrays, compressed):
    source = data.open_source(f"idx:{write_idx(tmp_path, idx_arrays, compressed)}")
    assert source.splits == {"train": 23, "test": 7}
    assert source.class_names == ["0", "1", "2", "3"]  # the highest label of both splits, plus one
    for split, prefix in (("train", "train"), ("test", "t10k")):
        examples = list(source.dataset(split).as_numpy_iterator())
        np.testing.assert_array_equal(np.stack([e["image"] for e in examples])[..., 0], idx_arrays[prefix][0])
        np.testing.assert_array_equal([e["label"] for e in examples], idx_arrays[prefix][1])


def _cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def _other_magic(path):
    path.write_bytes(b"\0\0\x0d" + path.read_bytes()[3:])


def _empty(path):
    path.write_bytes(b"")


def _half_gzip(path):
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes())[:-9])
    path.unlink()


def _no_gzip(path):
    path.rename(path.with_name(path.name + ".gz"))


def _gone(path):
    path.unlink()


@pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte", "train-labels-idx1-ubyte"])
@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (_cut, "bytes of data"),
        (_other_magic, "starts with 0x00000d0"),
        (_empty, "starts with"),
        (_half_gzip, "not a complete gzip file"),
        (_no_gzip, "not a complete gzip file"),
        (_gone, "neither"),
    ],
)
def test_spoilt_files_are_named(tmp_path, write_idx, idx_arrays, name, spoil, part):
    folder = write_idx(tmp_path, idx_arrays, compressed=False)
    spoil(folder / name)
    with pytest.raises(DataError, match=part) as error:
        data.open_source(f"idx:{folder}")
    assert "\n" not in str(error.value)
    assert name in str(error.value)
    assert str(folder) in str(error.value)


def test_images_and_labels_differ_in_number(tmp_path, write_idx, idx_arrays):
    images, labels = idx_arrays["train"]
    folder = write_idx(tmp_path, {**idx_arrays, "train": (images, labels[:-2])}, compressed=False)
    with pytest.raises(DataError, match=r"has 23 images but .*train-labels.* 21 labels"):
        data.open_source(f"idx:{folder}")


def test_images_and_labels_swapped(tmp_path, write_idx, idx_arrays):
    folder = write_idx(tmp_path, idx_arrays, compressed=False)
    (folder / "train-images-idx3-ubyte").write_bytes((folder / "train-labels-idx1-ubyte").read_bytes())
    with pytest.raises(DataError, match="0x00000801, not 0x00000803"):
        data.open_source(f"idx:{folder}")


def test_no_examples_at_all(tmp_path, write_idx):
    nothing = (np.zeros((0, 6, 5), np.uint8), np.zeros(0, np.uint8))
    folder = write_idx(tmp_path, {"train": nothing, "t10k": nothing}, compressed=False)
    with pytest.raises(DataError, match="has no examples"):
        data.open_source(f"idx:{folder}")
