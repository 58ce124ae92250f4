"""Files of PyTorch's weights as NumPy arrays; nothing in a file is ever executed."""

import argparse
import os
import zipfile

import numpy as np
import safetensors

from convzoo.porting.errors import PortingError

# What training programs wrap weights in: of timm, torchvision and many others.
_WEIGHTS = ("state_dict", "model", "model_state_dict")
_AVERAGES = ("state_dict_ema", "model_ema")
# What torch's wrappers for several devices and for compilation put before every name.
_PREFIXES = ("module.", "_orig_mod.")
_COUNTERS = ("num_batches_tracked", "n_averaged")
# Below, weights_only=True could be made to execute code (CVE-2025-32434).
_SAFE_TORCH = (2, 6)

_SAFETENSORS = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
}


def read(path: str, ema: bool = False) -> tuple[dict[str, np.ndarray], int]:
    """Reads a `.safetensors`, `.npz` or (where PyTorch is installed) `.pth` file.

    Args:
        path: The file. A `.pth` may wrap its weights, as {"state_dict": ...} or {"model": ...}.
        ema: Take the moving averages that a `.pth` of a training holds beside the weights.

    Returns:
        {name: array}, floating-point numbers as float32, and how many counters were left aside.

    Raises:
        PortingError: No such file, another suffix, not what its suffix says, no weights or no averages in it.
    """
    reader = next((reader for suffix, reader in _READERS.items() if path.endswith(suffix)), None)
    if reader is None:
        raise PortingError(f"checkpoint {path!r} ends in none of {', '.join(_READERS)}; give such a file")
    if not os.path.isfile(path):
        raise PortingError(f"checkpoint {path!r} is not there; check the path")
    if ema and reader is not _read_pth:
        raise PortingError(f"{path!r} holds one set of weights, no moving averages beside them; leave out --ema")
    arrays = reader(path, ema)
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in arrays if name not in _COUNTERS):
            arrays = {name.removeprefix(prefix): value for name, value in arrays.items()}
    weights = {name: value for name, value in arrays.items() if name.rpartition(".")[2] not in _COUNTERS}
    if not weights:
        raise PortingError(f"{path!r} holds no weights")
    return {name: as_float32(value) for name, value in weights.items()}, len(arrays) - len(weights)


def as_float32(value: np.ndarray) -> np.ndarray:
    """`value` in float32 where it is of floating-point numbers, else as it is."""
    return value.astype(np.float32) if np.issubdtype(value.dtype, np.floating) else value


def _read_safetensors(path, ema):
    try:
        with open(path, "rb") as file:
            tensors = safetensors.deserialize(file.read())
    except (OSError, safetensors.SafetensorError) as error:
        raise _unreadable(path, "safetensors file", error) from error
    return {name: _from_bytes(path, name, **tensor) for name, tensor in tensors}


def _from_bytes(path, name, dtype, shape, data):
    if dtype == "BF16":  # the upper half of a float32
        values = (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    elif dtype in _SAFETENSORS:
        values = np.frombuffer(data, _SAFETENSORS[dtype])
    else:
        raise PortingError(f"{name} of {path!r} is of {dtype}; give weights in F16, BF16, F32 or F64")
    return values.reshape(shape)


def _read_npz(path, ema):
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    # An .npy file under this name is no context manager; a damaged archive fails in many ways.
    except (OSError, ValueError, EOFError, TypeError, AttributeError, KeyError, zipfile.BadZipFile) as error:
        raise _unreadable(path, "NumPy archive of arrays", error) from error


def _read_pth(path, ema):
    try:
        import torch
    except ImportError as error:
        raise PortingError(
            f"{path!r} needs PyTorch to be read; install torch, or give the weights as .safetensors"
        ) from error
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < _SAFE_TORCH:
        raise PortingError(
            f"PyTorch {torch.__version__} can be made to execute what a .pth file says; install torch 2.6 or newer"
        )
    try:
        # Training programs put their command line beside the weights: a record of values, which executes nothing.
        with torch.serialization.safe_globals([argparse.Namespace]):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or foreign pickle provokes in torch
        # Not in torch's words, which advise to execute what the file says.
        raise PortingError(
            f"{path!r} is no PyTorch file of nothing but weights, or a damaged one; save its state_dict() alone"
        ) from error
    loaded = _unwrap(path, loaded, ema)
    tensors = {name: value for name, value in loaded.items() if isinstance(value, torch.Tensor)}
    if len(tensors) < len(loaded):
        other = next(name for name in loaded if name not in tensors)
        raise PortingError(f"{other!r} in {path!r} is no tensor; give a file of weights alone")
    return {
        name: (value.float() if value.is_floating_point() else value).detach().numpy()
        for name, value in tensors.items()
    }


def _unwrap(path, loaded, ema):
    if not isinstance(loaded, dict):
        raise PortingError(f"{path!r} holds a {type(loaded).__name__}, no dictionary of weights; give a state dict")
    kept = [key for key in (_AVERAGES if ema else _WEIGHTS) if isinstance(loaded.get(key), dict)]
    if kept:
        return loaded[kept[0]]
    if ema:
        raise PortingError(f"{path!r} holds no moving averages ({' or '.join(_AVERAGES)}); leave out --ema")
    return loaded


def _unreadable(path, kind, error):
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return PortingError(f"{path!r} is no {kind}, or a damaged one ({line})")


_READERS = {
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
    ".pth": _read_pth,
    ".pt": _read_pth,
    ".pth.tar": _read_pth,
}
