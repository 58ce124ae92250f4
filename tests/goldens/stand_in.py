"""Reference figures of other people's implementations, with weights that anybody can make again.

A golden is a pair of files made by running the named implementation: `NAME.json` lists that implementation's variables
and how they were filled with random numbers; `NAME.npz` holds the batch-normalisation statistics that it then measured
(`stat:<variable>`) and the logits that it computed for `images(NAME)`.
"""

import json
import pathlib
import zlib

import numpy as np

FOLDER = pathlib.Path(__file__).parent


def load(name):
    """Weights of golden `name`: {variable: float32 array}, named and laid out as in the implementation it came from."""
    meta, arrays = _files(name)
    weights = {}
    for variable, shape in meta.get("state_dict") or meta["variables"]:
        statistic = f"stat:{variable}"
        if statistic in arrays:
            weights[variable] = arrays[statistic]
        elif not variable.endswith("num_batches_tracked"):
            weights[variable] = _fill(variable, tuple(shape), meta["fill"])
    return weights


def images(name):
    """Input of golden `name`, already normalised: float32 [2, size, size, 3]."""
    size = _files(name)[0]["input_size"]
    return np.random.default_rng(1904).standard_normal((2, size, size, 3)).astype("float32")


def logits(name):
    """What the other implementation computed for `images(name)`: float32 [2, classes]."""
    return _files(name)[1]["logits"]


def _files(name):
    return json.loads((FOLDER / f"{name}.json").read_text()), np.load(FOLDER / f"{name}.npz")


def _fill(variable, shape, fill):
    noise = np.random.default_rng(zlib.crc32(variable.encode())).standard_normal(shape).astype("float32")
    leaf = variable.replace("/", ".").rsplit(".", 1)[-1]
    if leaf in ("running_mean", "moving_mean", "bias", "beta"):
        value = 0.1 * noise
    elif len(shape) == 1:  # the scale of a batch normalisation
        value = 1 + 0.1 * noise
    elif variable in fill["mixed"]:  # a bank of expert kernels
        value = fill["mixed_std"] * noise
    else:
        fan_in = {"weight": shape[1:], "depthwise_kernel": shape[:2]}.get(leaf, shape[:-1])
        value = noise * np.sqrt(fill["gain"] / int(np.prod(fan_in)))
    return value.astype("float32")
