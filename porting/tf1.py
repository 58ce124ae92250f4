"""Weights of the EfficientNet code for TensorFlow 1 (github.com/tensorflow/tpu, models/official/efficientnet)."""

import os
import re

from convzoo.porting.base import Source
from convzoo.porting.errors import PortingError
from convzoo.porting.layouts import TENSORFLOW
from convzoo.porting.naming import Naming
from convzoo.porting.readers import as_float32

_AVERAGE = "/ExponentialMovingAverage"
_STATISTICS = ("/moving_mean", "/moving_variance")

# NETWORK/[model/]SCOPE/[se/]LAYER[_NUMBER]/VARIABLE: Keras layers of the code got the scope "model", others did not.
_NAME = re.compile(r"(?:.*/)?(stem|head|blocks_\d+)/(se/)?([a-z]\w*?)(?:_(\d+))?/(\w+)")
_KINDS = {
    "conv2d": "conv",
    "cond_conv2d": "conv",
    "depthwise_conv2d": "depthwise",
    "depthwise_cond_conv2d": "depthwise",
    "batch_normalization": "bn",
    "tpu_batch_normalization": "bn",
    "sync_batch_normalization": "bn",
    "dense": "dense",
}
_SHARED = {"depthwise0": "depthwise_conv", "se/conv0": "se_reduce", "se/conv1": "se_expand", "dense0": "routing"}


def read(path: str, ema: bool = False):
    """Reads a TensorFlow 1 checkpoint; see `Source.read`.

    Left aside are the slots of optimizers and the moving averages (what is named below a weight and has its shape) and
    scalars (steps, powers of Adam's betas).

    Args:
        path: PREFIX of PREFIX.index and PREFIX.data-..., one of these files, or a folder with one checkpoint.
        ema: Take each weight's moving average.

    Returns:
        ({name without "/ExponentialMovingAverage": float32 array}, number of variables left aside).

    Raises:
        PortingError: No checkpoint there, a damaged one, one of TensorFlow 2, or no moving averages in it.
    """
    import tensorflow as tf

    # Not all that a damaged file provokes in TensorFlow is an error of its own kind.
    unreadable = (tf.errors.OpError, RuntimeError, IndexError, ValueError)
    prefix = _prefix(path, tf)
    try:
        reader = tf.train.load_checkpoint(prefix)
        shapes = {name: tuple(shape) for name, shape in reader.get_variable_to_shape_map().items()}
    except unreadable as error:
        raise _damaged(path, error) from error
    names = _choose(path, shapes, ema)
    try:
        values = {name: as_float32(reader.get_tensor(stored)) for name, stored in names.items()}
    except unreadable as error:
        raise _damaged(path, error) from error
    return values, len(shapes) - len(values)


def _damaged(path, error):
    return PortingError(f"checkpoint {path!r} cannot be read ({str(error).splitlines()[0]})")


def _prefix(path, tf):
    if tf.io.gfile.isdir(path):
        found = tf.io.gfile.glob(os.path.join(path, "*.index"))
        latest = tf.train.latest_checkpoint(path) or (found[0].removesuffix(".index") if len(found) == 1 else None)
        if latest is None:
            raise PortingError(f"folder {path!r} holds {len(found)} checkpoints; give the path of one, without .index")
        return latest
    prefix = re.sub(r"\.(index|meta|data-\d+-of-\d+)$", "", path)
    if not tf.io.gfile.exists(f"{prefix}.index"):
        raise PortingError(f"no checkpoint {path!r} is there (no {prefix + '.index'!r}); check the path")
    return prefix


def _choose(path, shapes, ema):
    """{weight: the stored variable that gives it}."""
    if any("/.ATTRIBUTES/" in name for name in shapes):
        raise PortingError(f"{path!r} is a checkpoint of TensorFlow 2; give one of the TensorFlow 1 code")
    averages = {name.removesuffix(_AVERAGE) for name in shapes if name.endswith(_AVERAGE)}
    weights = {name for name, shape in shapes.items() if shape and not _is_below(name, shapes)}
    weights = {name for name in weights if not name.endswith(_AVERAGE)}
    if not ema:
        if averages and not weights:
            raise PortingError(f"{path!r} holds moving averages alone; give --ema")
        return {name: name for name in weights}
    if not averages:
        raise PortingError(f"{path!r} holds no moving averages; leave out --ema")
    # TensorFlow's own averages are of what is trained: statistics of normalisations are averages as they are.
    averaged_statistics = any(name.endswith(_STATISTICS) for name in averages)
    kept = {name for name in weights if name.endswith(_STATISTICS)} if not averaged_statistics else set()
    return {name: name + _AVERAGE for name in averages} | {name: name for name in kept}


def _is_below(name, shapes):
    parent = name.rpartition("/")[0]
    return shapes.get(parent) == shapes[name]


def _canonical(names):
    """{name: "SCOPE.[se/]KIND<rank>.VARIABLE"} for names of the code's form.

    TensorFlow tells layers of one kind apart by numbers that count on, within a scope or over the whole network, in
    the order of their making; a rank counts them within their scope.
    """
    split = {}
    for name in names:
        match = _NAME.fullmatch(name)
        if match and match[3] in _KINDS:
            kind = (match[1], f"{match[2] or ''}{_KINDS[match[3]]}")
            split[name] = (kind, (int(match[4] or 0), name.rpartition("/")[0]), match[5])
    layers = {}
    for kind, layer, _ in split.values():
        layers.setdefault(kind, set()).add(layer)
    ranks = {kind: sorted(found) for kind, found in layers.items()}
    return {
        name: f"{scope}.{kind}{ranks[scope, kind].index(layer)}.{variable}"
        for name, ((scope, kind), layer, variable) in split.items()
    }


class _Tf1Naming(Naming):
    """A naming of ranks, from the variables' full names."""

    def paths(self, names, layout):
        canonical = _canonical(names)
        paths = super().paths(canonical.values(), layout)
        return {name: paths[rank] for name, rank in canonical.items() if rank in paths}


_EFFICIENTNET = _Tf1Naming(
    {
        "stem.conv0": "stem_conv",
        "stem.bn0": "stem_bn",
        "head.conv0": "head_conv",
        "head.bn0": "head_bn",
        "head.dense0": "head_dense",
    },
    r"blocks_(\d+)",
    (
        (
            "conv1",
            {
                "conv0": "expand_conv",
                "bn0": "expand_bn",
                "bn1": "depthwise_bn",
                "conv1": "project_conv",
                "bn2": "project_bn",
                **_SHARED,
            },
        ),
        ("", {"bn0": "depthwise_bn", "conv0": "project_conv", "bn1": "project_bn", **_SHARED}),
    ),
)

SOURCE = Source(
    title="the TensorFlow 1 EfficientNet code",
    read=read,
    layout=TENSORFLOW,
    namings={"efficientnet": _EFFICIENTNET},
)
