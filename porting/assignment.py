"""Assignment of converted arrays to a network: every array and every variable is used exactly once."""

from collections.abc import Mapping

import keras
import numpy as np

from convzoo.errors import ModelError
from convzoo.porting.frameworks import Framework, KernelLayout

_MAX_LISTED = 5


def assign_weights(
    model: keras.Model, values: Mapping[str, np.ndarray], paths: Mapping[str, str], framework: Framework
) -> None:
    """Assigns another implementation's arrays to `model`: all of them, or none when an error is raised.

    Args:
        model: Our network.
        values: Arrays by their names, in the framework's layout.
        paths: Their name -> our "layer/variable".
        framework: The framework that wrote the arrays.

    Raises:
        ModelError: A variable of ours has no array, an array has no variable, two arrays have the same variable, or an
            array has the wrong shape or dtype. The message names up to five of each.

    Example:
        >>> from convzoo.porting.frameworks import TORCH
        >>> inputs = keras.Input((4,))
        >>> model = keras.Model(inputs, keras.layers.Dense(2, use_bias=False, name="fc")(inputs))
        >>> assign_weights(model, {"fc.weight": np.ones((2, 4), "float32")}, {"fc.weight": "fc/kernel"}, TORCH)
        >>> tuple(model.get_layer("fc").kernel.shape)
        (4, 2)
    """
    variables = {
        f"{layer.name}/{name}": (layer, variable) for layer in model.layers for name, variable in _variables(layer)
    }
    names, duplicates = {}, []
    for name, path in paths.items():
        if names.setdefault(path, name) != name:
            duplicates.append(f"{name} and {names[path]} for {path}")
    converted, mismatches = {}, []
    for path, (layer, variable) in variables.items():
        if path not in names:
            continue
        name, value = names[path], values[names[path]]
        stored_shape, axes = _stored_layout(layer, path, tuple(variable.shape), framework)
        if value.shape != stored_shape:
            mismatches.append(f"{name} {list(value.shape)} for {path}, which needs {list(stored_shape)}")
        elif value.dtype != np.float32:
            mismatches.append(f"{name} of {value.dtype} for {path}, which needs floating-point numbers")
        elif not np.isfinite(value).all():
            mismatches.append(f"{name} for {path} with NaN or infinite values")
        else:
            ordered = value.reshape([variable.shape[axis] for axis in axes])
            converted[path] = np.transpose(ordered, np.argsort(axes))
    problems = {
        "missing": [path for path in variables if path not in names],
        "unexpected": sorted(name for name in values if paths.get(name) not in variables),
        "duplicate": duplicates,
        "mismatched": mismatches,
    }
    problems = [
        f"{len(items)} {kind}: {', '.join(items[:_MAX_LISTED])}{', ...' if len(items) > _MAX_LISTED else ''}"
        for kind, items in problems.items()
        if items
    ]
    if problems:
        raise ModelError(f"the weights do not fit {model.name}: {'; '.join(problems)}")
    for path, value in converted.items():
        variables[path][1].assign(value)


def _variables(layer):
    """Returns (name, variable) pairs of a layer; a layer's only kernel is called "kernel"."""
    named = [(variable.path.rpartition("/")[2], variable) for variable in layer.weights]
    kernels = [name for name, _ in named if name.endswith("kernel")]
    return [("kernel" if [name] == kernels else name, variable) for name, variable in named]


def _stored_layout(layer, path, shape, framework):
    """Returns the stored shape of our variable, and our axes in the framework's order."""
    if type(layer) not in framework.kernels and path.endswith("/kernel"):
        raise ModelError(f"the kernel layout of {type(layer).__name__} ({layer.name}) is unknown for this source")
    layouts = framework.kernels.get(type(layer), {})
    layout = layouts.get(path.rpartition("/")[2], KernelLayout(tuple(range(len(shape)))))
    return tuple(layout.stored_shape(tuple(shape[axis] for axis in layout.axes))), layout.axes
