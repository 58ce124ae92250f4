"""Readers of PyTorch weight files: dtypes, wrappers, and invalid files."""

import argparse
import contextlib
import pickle
import sys
import types

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from convzoo.errors import ModelError
from convzoo.porting.readers import read

VALUES = np.arange(6, dtype="float32").reshape(2, 3) / 4


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16, "float32", "float64"])
def test_all_float_dtypes_become_float32(dtype, tmp_path):
    path = str(tmp_path / "a.safetensors")
    save_file({"a.weight": VALUES.astype(dtype), "a.num_batches_tracked": np.array(3)}, path)
    weights, num_ignored = read(path)
    assert num_ignored == 1
    assert list(weights) == ["a.weight"]
    assert weights["a.weight"].dtype == np.float32
    np.testing.assert_array_equal(weights["a.weight"], VALUES)


def test_npz_and_common_prefixes(tmp_path):
    path = str(tmp_path / "a.npz")
    np.savez(path, **{"module.a.weight": VALUES, "module.b": VALUES})
    assert sorted(read(path)[0]) == ["a.weight", "b"]
    np.savez(path, **{"module.a.weight": VALUES, "b": VALUES})
    assert sorted(read(path)[0]) == ["b", "module.a.weight"]


def check_error(path, match, **options):
    with pytest.raises(ModelError, match=match) as error:
        read(str(path), **options)
    assert "\n" not in str(error.value)


def test_unreadable_files(tmp_path):
    check_error(tmp_path / "a.safetensors", r"a\.safetensors")
    check_error(tmp_path / "a.h5", r"a\.h5.*\.safetensors, \.npz, \.pth")
    for suffix in (".safetensors", ".npz"):
        path = tmp_path / f"a{suffix}"
        for content in (b"", b"text that is no archive", b"PK\x03\x04 a damaged archive", pickle.dumps({"a": 1})):
            path.write_bytes(content)
            check_error(path, rf"a\{suffix}")
    with open(tmp_path / "a.npz", "wb") as file:
        np.save(file, VALUES)
    check_error(tmp_path / "a.npz", r"a\.npz")
    np.savez(tmp_path / "a.npz", a=np.array({"an": "object"}))
    check_error(tmp_path / "a.npz", r"a\.npz")
    np.savez(tmp_path / "a.npz")
    check_error(tmp_path / "a.npz", r"a\.npz")
    np.savez(tmp_path / "a.npz", a=VALUES)
    check_error(tmp_path / "a.npz", "--ema", ema=True)


class Tensor:
    """The part of torch.Tensor that the reader uses."""

    def __init__(self, values):
        self.values = values

    def is_floating_point(self):
        return self.values.dtype != np.int64

    def float(self):
        return Tensor(self.values.astype("float32"))

    def detach(self):
        return self

    def numpy(self):
        return self.values


@pytest.fixture
def fake_torch(monkeypatch):
    """A torch whose `load` returns or raises `fake_torch.content`, and requires weights_only=True."""
    fake = types.ModuleType("torch")
    fake.__version__, fake.Tensor = "2.6.0+cpu", Tensor
    fake.serialization = types.SimpleNamespace(safe_globals=lambda kinds: contextlib.nullcontext())

    def load(path, map_location, weights_only):
        assert (map_location, weights_only) == ("cpu", True)
        if isinstance(fake.content, Exception):
            raise fake.content
        return fake.content

    fake.load = load
    monkeypatch.setitem(sys.modules, "torch", fake)
    return fake


def test_pth_with_and_without_wrapper(fake_torch, tmp_path):
    path = tmp_path / "a.pth"
    path.touch()
    weights = {"module.a.weight": Tensor(VALUES), "module.a.num_batches_tracked": Tensor(np.array(3))}
    averages = {"n_averaged": Tensor(np.array(3)), "module.a.weight": Tensor(VALUES + 1)}
    for content in (
        weights,
        {"state_dict": weights, "state_dict_ema": averages, "args": argparse.Namespace(), "epoch": 3},
        {"model": weights, "model_ema": averages, "optimizer": {}},
    ):
        fake_torch.content = content
        read_weights, num_ignored = read(str(path))
        assert (list(read_weights), num_ignored) == (["a.weight"], 1)
        np.testing.assert_array_equal(read_weights["a.weight"], VALUES)
        if content is not weights:
            np.testing.assert_array_equal(read(str(path), ema=True)[0]["a.weight"], VALUES + 1)
    fake_torch.content = weights
    check_error(path, "state_dict_ema", ema=True)


def test_invalid_pth(fake_torch, tmp_path):
    path = tmp_path / "a.pth"
    path.touch()
    for content, match in (
        ([1, 2], "list"),
        ({"a": Tensor(VALUES), "lr": 0.1}, "'lr'"),
        (pickle.UnpicklingError("Set weights_only=False."), r"^(?!.*weights_only).*a\.pth"),
    ):
        fake_torch.content = content
        check_error(path, match)
    fake_torch.__version__ = "2.5.1"
    check_error(path, r"2\.5\.1")


def test_pth_without_torch(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "a.pth"
    path.touch()
    check_error(path, "torch")
