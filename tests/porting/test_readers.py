"""Files of torch's weights: kinds of numbers, wrappers, and what is no such file."""

import argparse
import contextlib
import pickle
import sys
import types

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from convzoo.porting import PortingError
from convzoo.porting.readers import read

VALUES = np.arange(6, dtype="float32").reshape(2, 3) / 4


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16, "float32", "float64"])
def test_all_become_float32(dtype, tmp_path):
    path = str(tmp_path / "a.safetensors")
    save_file({"a.weight": VALUES.astype(dtype), "a.num_batches_tracked": np.array(3)}, path)
    weights, aside = read(path)
    assert aside == 1
    assert list(weights) == ["a.weight"]
    assert weights["a.weight"].dtype == np.float32
    np.testing.assert_array_equal(weights["a.weight"], VALUES)


def test_npz_and_prefixes(tmp_path):
    path = str(tmp_path / "a.npz")
    np.savez(path, **{"module.a.weight": VALUES, "module.b": VALUES})
    assert sorted(read(path)[0]) == ["a.weight", "b"]
    np.savez(path, **{"module.a.weight": VALUES, "b": VALUES})
    assert sorted(read(path)[0]) == ["b", "module.a.weight"]


def refuse(path, match, **options):
    with pytest.raises(PortingError, match=match) as caught:
        read(str(path), **options)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_read(tmp_path):
    refuse(tmp_path / "a.safetensors", "is not there; check the path")
    refuse(tmp_path / "a.h5", r"ends in none of .safetensors, .npz, .pth")
    for suffix, kind in ((".safetensors", "safetensors file"), (".npz", "NumPy archive of arrays")):
        path = tmp_path / f"a{suffix}"
        for content in (b"", b"text that is no archive", b"PK\x03\x04 a damaged archive", pickle.dumps({"a": 1})):
            path.write_bytes(content)
            refuse(path, f"is no {kind}, or a damaged one")
    with open(tmp_path / "a.npz", "wb") as file:
        np.save(file, VALUES)
    refuse(tmp_path / "a.npz", "is no NumPy archive of arrays")
    np.savez(tmp_path / "a.npz", a=np.array({"an": "object"}))
    refuse(tmp_path / "a.npz", "is no NumPy archive of arrays")
    np.savez(tmp_path / "a.npz")
    refuse(tmp_path / "a.npz", "holds no weights")
    np.savez(tmp_path / "a.npz", a=VALUES)
    refuse(tmp_path / "a.npz", "no moving averages beside them; leave out --ema", ema=True)


class Tensor:
    """As much of a tensor as the reader asks for."""

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
    """A torch that answers `torch.load` with `fake_torch.content`, and insists that nothing be executed."""
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


def test_pth(fake_torch, tmp_path):
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
        read_weights, aside = read(str(path))
        assert (list(read_weights), aside) == (["a.weight"], 1)
        np.testing.assert_array_equal(read_weights["a.weight"], VALUES)
        if content is not weights:
            np.testing.assert_array_equal(read(str(path), ema=True)[0]["a.weight"], VALUES + 1)
    fake_torch.content = weights
    refuse(path, "holds no moving averages", ema=True)


def test_pth_that_is_refused(fake_torch, tmp_path):
    path = tmp_path / "a.pth"
    path.touch()
    for content, match in (
        ([1, 2], "holds a list, no dictionary of weights"),
        ({"a": Tensor(VALUES), "lr": 0.1}, "'lr' in .* is no tensor"),
        (pickle.UnpicklingError("Set weights_only=False."), r"is no PyTorch file of nothing but weights, .* alone$"),
    ):
        fake_torch.content = content
        refuse(path, match)
    fake_torch.__version__ = "2.5.1"
    refuse(path, "install torch 2.6 or newer")


def test_pth_without_torch(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "a.pth"
    path.touch()
    refuse(path, "needs PyTorch to be read; install torch, or give the weights as .safetensors")
