"""Readers of PyTorch weight files, which return NumPy arrays. No code in a file is executed."""

import argparse
import os
import zipfile

import numpy as np
import safetensors

from convzoo.errors import ModelError, first_line

# Keys under which timm, torchvision and other training programs save weights, and their moving averages.
_WEIGHTS = ("state_dict", "model", "model_state_dict")
_AVERAGES = ("state_dict_ema", "model_ema")
# Prefixes that DataParallel and torch.compile add to every name.
_PREFIXES = ("module.", "_orig_mod.")
_COUNTERS = ("num_batches_tracked", "n_averaged")
# In earlier versions a file can execute code in spite of weights_only=True (CVE-2025-32434).
_SAFE_TORCH = (2, 6)

_SAFETENSORS_DTYPES = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2"},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1"},
}


def read(path: str, ema: bool = False) -> tuple[dict[str, np.ndarray], int]:
    """Reads a `.safetensors`, `.npz` or, if PyTorch is installed, `.pth` file.

    Args:
        path: The file. A `.pth` file may contain {"state_dict": ...} or {"model": ...}.
        ema: Whether to read the moving averages that a training program saved in a `.pth` file.

    Returns:
        {name: array}, with floating-point arrays as float32, and the number of ignored counters.

    Raises:
        ModelError: The file does not exist, has another suffix or another format, or contains no weights or no moving
            averages.

    Example:
        >>> np.savez("net.npz", **{"module.fc.weight": np.ones((2, 4), "float16"), "module.fc.num_batches_tracked": 7})
        >>> weights, num_ignored = read("net.npz")
        >>> list(weights), weights["fc.weight"].dtype, num_ignored
        (['fc.weight'], dtype('float32'), 1)
    """
    reader = next((reader for suffix, reader in _READERS.items() if path.endswith(suffix)), None)
    if reader is None:
        raise ModelError(f"checkpoint {path!r} does not end in {', '.join(_READERS)}; use such a file")
    if not os.path.isfile(path):
        raise ModelError(f"checkpoint {path!r} does not exist; check the path")
    if ema and reader is not _read_pth:
        raise ModelError(f"{path!r} has one set of weights and no moving averages; remove --ema")
    arrays = reader(path, ema)
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in arrays if name not in _COUNTERS):
            arrays = {name.removeprefix(prefix): value for name, value in arrays.items()}
    weights = {name: value for name, value in arrays.items() if name.rpartition(".")[2] not in _COUNTERS}
    if not weights:
        raise ModelError(f"{path!r} contains no weights")
    return {name: as_float32(value) for name, value in weights.items()}, len(arrays) - len(weights)


def as_float32(value: np.ndarray) -> np.ndarray:
    """Converts a floating-point array to float32 and returns any other array unchanged.

    Example:
        >>> as_float32(np.ones(2, "float64")).dtype, as_float32(np.ones(2, "int64")).dtype
        (dtype('float32'), dtype('int64'))
    """
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
    elif dtype in _SAFETENSORS_DTYPES:
        values = np.frombuffer(data, _SAFETENSORS_DTYPES[dtype])
    else:
        raise ModelError(f"{name} of {path!r} has dtype {dtype}; use F16, BF16, F32 or F64")
    return values.reshape(shape)


def _read_npz(path, ema):
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    # A renamed .npy file is not a context manager, and a damaged archive raises many types of errors.
    except (OSError, ValueError, EOFError, TypeError, AttributeError, KeyError, zipfile.BadZipFile) as error:
        raise _unreadable(path, "NumPy archive of arrays", error) from error


def _read_pth(path, ema):
    try:
        import torch
    except ImportError as error:
        raise ModelError(f"{path!r} needs PyTorch; install torch, or convert the weights to .safetensors") from error
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < _SAFE_TORCH:
        raise ModelError(f"PyTorch {torch.__version__} can execute code of a .pth file; install torch 2.6 or newer")
    try:
        # Training programs save their command line next to the weights. A Namespace holds values and runs no code.
        with torch.serialization.safe_globals([argparse.Namespace]):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or malicious pickle raises any type of error
        # torch's own message recommends weights_only=False, which would execute the file's code.
        raise ModelError(
            f"{path!r} is damaged or contains more than tensors; save the model's state_dict() only"
        ) from error
    loaded = _unwrap(path, loaded, ema)
    tensors = {name: value for name, value in loaded.items() if isinstance(value, torch.Tensor)}
    if len(tensors) < len(loaded):
        other = next(name for name in loaded if name not in tensors)
        raise ModelError(f"{other!r} in {path!r} is not a tensor; use a file that contains only weights")
    return {
        name: (value.float() if value.is_floating_point() else value).detach().numpy()
        for name, value in tensors.items()
    }


def _unwrap(path, loaded, ema):
    """Returns the dict of weights or moving averages inside what a training program saved."""
    if not isinstance(loaded, dict):
        raise ModelError(f"{path!r} contains a {type(loaded).__name__} instead of a dict of weights; use a state dict")
    key = next((key for key in (_AVERAGES if ema else _WEIGHTS) if isinstance(loaded.get(key), dict)), None)
    if key is None and ema:
        raise ModelError(f"{path!r} has no moving averages ({' or '.join(_AVERAGES)}); remove --ema")
    return loaded if key is None else loaded[key]


def _unreadable(path, kind, error):
    return ModelError(f"{path!r} is damaged or not a {kind} ({first_line(error)})")


_READERS = {
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
    ".pth": _read_pth,
    ".pt": _read_pth,
    ".pth.tar": _read_pth,
}
