"""Conversion of any trained Keras network to one of the four operators."""

import dataclasses
import fnmatch
import statistics
import warnings
from collections.abc import Callable, Sequence

import keras

from convzoo.errors import ModelError
from convzoo.models.graph import calls
from convzoo.models.operators import Operator


def convert(
    model: keras.Model,
    operator: Operator,
    where: str | Sequence[str] | Callable[[keras.Layer], bool] | None = None,
    noise: float = 0.0,
    seed: int = 0,
) -> keras.Model:
    """Replaces convolutions of a trained network by those of an operator, and starts them from the trained weights.

    The network that `CondConv` or `DRConv` returns computes the same outputs as before: every expert and base kernel is
    a copy of the trained kernel. Copies get equal gradients and stay equal in training; `noise` tells them apart, and
    still leaves the outputs the same. `Lean` and `UnevenGroups` have fewer weights: they start from the least-squares
    fit of the trained kernel, and a warning says its error (Frobenius norm, relative to the trained kernel).

    New layers keep the name, strides, padding, data format, bias, activation, initializers, regularizers, constraints
    and dtype of the layers that they replace, and are frozen if those are. A CondConv layer has its own routing, and a
    DRConv layer its own mask, computed from its inputs.

    Args:
        model: A built functional or Sequential model, ours or not. It may contain other such models. It is unchanged.
        operator: `CondConv`, `DRConv`, `Lean` or `UnevenGroups`.
        where: The layers to replace: shell patterns of their names, or a function that returns True for them. By
            default all that the operator replaces, but neither the first convolution (the stem) nor convolutions of
            1x1 images (squeeze-and-excitation).
        noise: Standard deviation of the noise between copies, as a fraction of each kernel's. 0.1 is a good value for
            training on.
        seed: Of the noise.

    Returns:
        A new model with the same inputs, outputs and layer names. If `model` is compiled, so is it, with the same
        settings and a new optimizer.

    Raises:
        ModelError: The model is not built or has no graph, `where` is no pattern or function, or selects nothing or
            a layer that the operator cannot replace, noise or a setting of the operator has no effect, or a number is
            out of range.

    Example:
        >>> from convzoo import models
        >>> trained = keras.applications.MobileNetV2((32, 32, 3), weights=None, classes=10)
        >>> converted = models.convert(trained, models.CondConv(num_experts=4), where="block_1[0-6]_*", noise=0.1)
        >>> images = keras.ops.ones((1, 32, 32, 3))
        >>> bool(keras.ops.max(keras.ops.abs(trained(images) - converted(images))) < 1e-4)
        True
    """
    if not isinstance(model, keras.Model):
        raise ModelError(f"model must be a keras.Model, not {model!r}")
    if not isinstance(operator, Operator):
        raise ModelError(f"operator must be one such as convzoo.models.CondConv(), not {operator!r}")
    if isinstance(noise, bool) or not isinstance(noise, (int, float)) or not 0 <= noise < float("inf"):
        raise ModelError(f"noise must be a number of at least 0, not {noise!r}")
    if noise and not operator.makes_copies:
        raise ModelError(f"noise={noise!r} has no effect: {operator} starts from no copies of a kernel; use noise=0")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ModelError(f"seed must be an integer, not {seed!r}")
    for field in dataclasses.fields(operator):
        value = getattr(operator, field.name)
        if field.name in operator.NETWORK_ONLY and value != field.default:
            raise ModelError(
                f"{field.name}={value!r} of {type(operator).__name__} has no effect in convert; remove it, and select "
                "layers with where"
            )
    _check_graph(model)
    selected = _select(model, operator, where)
    replaced, copied = [], []

    def clone_layer(layer):
        if id(layer) in selected:
            replaced.append((layer, operator.replacement(layer, len(replaced))))
            return replaced[-1][1]
        copy = type(layer).from_config(layer.get_config())
        if isinstance(layer, keras.Layer):  # not an operation of keras.ops
            copied.append((layer, copy))
        return copy

    result = keras.models.clone_model(model, clone_function=clone_layer, recursive=True)
    for layer, copy in copied:
        copy.set_weights(layer.get_weights())
        if isinstance(copy, keras.layers.Normalization):
            copy.finalize_state()  # derives its constants from the weights
    errors = [operator.start_from(new, layer, noise, seed + n) for n, (layer, new) in enumerate(replaced)]
    _copy_frozen_models(model, result)
    if (largest := max(errors)) > 0:
        worst = replaced[errors.index(largest)][0].name
        warnings.warn(
            f"{type(operator).__name__} fits the {len(errors)} kernels of {model.name} with a relative error of "
            f"{statistics.median(errors):.2f} (median), at most {largest:.2f} ({worst}); train on",
            stacklevel=2,
        )
    return result


def _check_graph(model):
    """Raises ModelError unless `model` and all models in it are built functional or Sequential models."""
    is_sequential = isinstance(model, keras.Sequential)
    if not (model.built if is_sequential else any(calls(model))):
        raise ModelError(f"{model.name} is not a built functional or sequential model; build it first")
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            _check_graph(layer)


def _leaves(model):
    """Yields the layers of a model and of the models in it, in order."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        else:
            yield layer


def _select(model, operator, where):
    """Returns the ids of the layers to replace."""
    leaves = list({id(layer): layer for layer in _leaves(model)}.values())
    if where is None:
        convolutions = [layer for layer in leaves if isinstance(layer, keras.layers.Conv2D)]
        chosen = [layer for layer in leaves if layer not in convolutions[:1] and not _is_on_1x1_images(layer)]
        chosen = [layer for layer in chosen if operator.selects(layer)]
        if not chosen:
            raise ModelError(f"{model.name} has no layer that {operator} replaces")
        return {id(layer) for layer in chosen}
    if callable(where):
        chosen = [layer for layer in leaves if where(layer)]
    else:
        patterns = [where] if isinstance(where, str) else where
        if not isinstance(patterns, (list, tuple)) or not all(isinstance(pattern, str) for pattern in patterns):
            raise ModelError(f"where must be patterns of layer names or a function, not {where!r}")
        for pattern in patterns:
            if not any(fnmatch.fnmatchcase(layer.name, pattern) for layer in leaves):
                raise ModelError(f"where={pattern!r} matches no layer of {model.name}")
        chosen = [layer for layer in leaves if any(fnmatch.fnmatchcase(layer.name, pattern) for pattern in patterns)]
        # A pattern of names also covers normalizations and activations, which no operator replaces.
        weighted = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
        chosen = [layer for layer in chosen if isinstance(layer, weighted)]
    for layer in chosen:
        if getattr(layer, "lora_enabled", False):
            raise ModelError(f"{layer.name} of {model.name} has LoRA weights, which would be lost; merge them first")
        if reason := operator.why_not(layer):
            raise ModelError(f"{type(operator).__name__} cannot replace {layer.name} of {model.name}: {reason}")
    if not chosen:
        raise ModelError(f"where={where!r} selects no convolution of {model.name}")
    return {id(layer) for layer in chosen}


def _is_on_1x1_images(layer):
    if not isinstance(layer, keras.layers.Conv2D):
        return False
    inputs = layer.input[0] if isinstance(layer.input, (list, tuple)) else layer.input
    shape = inputs.shape
    return (shape[2:] if layer.data_format == "channels_first" else shape[1:3]) == (1, 1)


def _copy_frozen_models(model, clone):
    """Freezes the models in `clone` that are frozen in `model`; their layers have their own settings already."""
    for layer, copy in zip(model.layers, clone.layers, strict=True):
        if isinstance(layer, keras.Model):
            _copy_frozen_models(layer, copy)
    if not model.trainable:
        clone.trainable = False
