"""Weights of the EfficientNet code for TensorFlow 1 (github.com/tensorflow/tpu, models/official/efficientnet)."""

import os
import re

from convzoo.errors import ModelError, first_line
from convzoo.porting.frameworks import TENSORFLOW
from convzoo.porting.readers import as_float32
from convzoo.porting.weight_source import LayerNameMap, WeightSource, conv_bn

_AVERAGE = "/ExponentialMovingAverage"
_STATISTICS = ("/moving_mean", "/moving_variance")

# NETWORK/[model/]SCOPE/[se/]LAYER[_NUMBER]/VARIABLE: only some layers of the code are in the scope "model".
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


def read(path: str, ema: bool = False):
    """Reads a TensorFlow 1 checkpoint; see `WeightSource.read`.

    Ignored are optimizer slots and moving averages (variables whose name starts with a weight's name and whose shape is
    that weight's) and scalars (the global step, powers of Adam's betas).

    Args:
        path: PREFIX of PREFIX.index and PREFIX.data-..., one of these files, or a folder with one checkpoint.
        ema: Whether to read each weight's moving average.

    Returns:
        ({name without "/ExponentialMovingAverage": float32 array}, number of ignored variables).

    Raises:
        ModelError: The checkpoint does not exist, is damaged, was written by TensorFlow 2, or has no moving averages.

    Example:
        >>> read("nowhere.ckpt")
        Traceback (most recent call last):
        convzoo.errors.ModelError: checkpoint 'nowhere.ckpt' does not exist ...
    """
    import tensorflow as tf

    # TensorFlow also raises these built-in errors for damaged files.
    unreadable = (tf.errors.OpError, RuntimeError, IndexError, ValueError)
    prefix = _prefix(path, tf)
    try:
        reader = tf.train.load_checkpoint(prefix)
        shapes = {name: tuple(shape) for name, shape in reader.get_variable_to_shape_map().items()}
        names = _select_weights(path, shapes, ema)
        values = {name: as_float32(reader.get_tensor(stored)) for name, stored in names.items()}
    except ModelError:
        raise
    except unreadable as error:
        raise ModelError(f"checkpoint {path!r} cannot be read ({first_line(error)})") from error
    return values, len(shapes) - len(values)


def _prefix(path, tf):
    """Returns the checkpoint prefix for a prefix, one of its files, or a folder."""
    if tf.io.gfile.isdir(path):
        indexes = tf.io.gfile.glob(os.path.join(path, "*.index"))
        latest = tf.train.latest_checkpoint(path) or (indexes[0].removesuffix(".index") if len(indexes) == 1 else None)
        if latest is None:
            raise ModelError(f"folder {path!r} has {len(indexes)} checkpoints; use the path of one, without .index")
        return latest
    prefix = re.sub(r"\.(index|meta|data-\d+-of-\d+)$", "", path)
    if not tf.io.gfile.exists(f"{prefix}.index"):
        raise ModelError(f"checkpoint {path!r} does not exist (no file {prefix + '.index'!r}); check the path")
    return prefix


def _select_weights(path, shapes, ema):
    """Returns {weight: name of the stored variable with its values}."""
    if any("/.ATTRIBUTES/" in name for name in shapes):
        raise ModelError(f"{path!r} is a checkpoint of TensorFlow 2; use one of the TensorFlow 1 code")
    averages = {name.removesuffix(_AVERAGE) for name in shapes if name.endswith(_AVERAGE)}
    weights = {name for name, shape in shapes.items() if shape and not _is_slot(name, shapes)}
    weights = {name for name in weights if not name.endswith(_AVERAGE)}
    if not ema:
        if averages and not weights:
            raise ModelError(f"{path!r} has only moving averages; add --ema")
        return {name: name for name in weights}
    if not averages:
        raise ModelError(f"{path!r} has no moving averages; remove --ema")
    # TensorFlow averages trainable variables only; the moving statistics are averages themselves.
    kept = set()
    if not any(name.endswith(_STATISTICS) for name in averages):
        kept = {name for name in weights if name.endswith(_STATISTICS)}
    return {name: name + _AVERAGE for name in averages} | {name: name for name in kept}


def _is_slot(name, shapes):
    """Returns True for a variable below another one of the same shape: an optimizer slot or a moving average."""
    return shapes.get(name.rpartition("/")[0]) == shapes[name]


def _canonical(names):
    """Returns {name: "SCOPE.[se/]KIND<rank>.VARIABLE"} for the names of the code's layers.

    TensorFlow numbers layers of one kind in the order of their creation, within a scope or over the whole network. The
    rank counts them within their scope.
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
    return {
        name: f"{kind[0]}.{kind[1]}{sorted(layers[kind]).index(layer)}.{variable}"
        for name, (kind, layer, variable) in split.items()
    }


class _CanonicalNameMap(LayerNameMap):
    """A map from canonical names, applied to the stored ones."""

    def variable_paths(self, names, framework):
        canonical = _canonical(names)
        paths = super().variable_paths(canonical.values(), framework)
        return {name: paths[key] for name, key in canonical.items() if key in paths}


_SHARED = {"depthwise0": "depthwise_conv", "se/conv0": "se_reduce", "se/conv1": "se_expand", "dense0": "routing"}
_EXPANDED = {
    **conv_bn("conv0", "bn0", "expand"),
    "bn1": "depthwise_bn",
    **conv_bn("conv1", "bn2", "project"),
    **_SHARED,
}
_EFFICIENTNET = _CanonicalNameMap(
    {
        **conv_bn("stem.conv0", "stem.bn0", "stem"),
        **conv_bn("head.conv0", "head.bn0", "head"),
        "head.dense0": "head_dense",
    },
    r"blocks_(\d+)",
    (("conv1", _EXPANDED), ("", {"bn0": "depthwise_bn", **conv_bn("conv0", "bn1", "project"), **_SHARED})),
)

SOURCE = WeightSource("the TensorFlow 1 EfficientNet code", read, TENSORFLOW, {"efficientnet": _EFFICIENTNET})
