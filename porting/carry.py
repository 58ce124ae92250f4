"""Arrays of a source into the variables of our network: each used exactly once, on both sides."""

from collections.abc import Mapping

import keras
import numpy as np

from convzoo.porting.errors import PortingError
from convzoo.porting.layouts import Kernel, Layout

_LISTED = 5


def carry(model: keras.Model, values: Mapping[str, np.ndarray], paths: Mapping[str, str], layout: Layout) -> None:
    """Gives `model` the arrays of a source, all of them or none.

    Args:
        model: Our network.
        values: The source's arrays by its names, in its order of axes.
        paths: The source's name -> our "layer/variable".
        layout: The source's conventions.

    Raises:
        PortingError: Variables of ours that nothing fills, arrays that have no place, two for one place, arrays of
            another shape or kind of number; up to five of each are named.
    """
    slots = {f"{layer.name}/{role}": (layer, variable) for layer in model.layers for role, variable in _roles(layer)}
    names, doubled = {}, []
    for name, path in paths.items():
        if names.setdefault(path, name) != name:
            doubled.append(f"{name} and {names[path]} for {path}")
    missing = [path for path in slots if path not in names]
    left_over = sorted(name for name in values if paths.get(name) not in slots)
    carried, misfits = {}, []
    for path, (layer, variable) in slots.items():
        if path not in names:
            continue
        name = names[path]
        stored, axes = _stored(layer, path, tuple(variable.shape), layout)
        value = values[name]
        if value.shape != stored:
            misfits.append(f"{name} {list(value.shape)} for {path}, which needs {list(stored)}")
        elif value.dtype != np.float32:
            misfits.append(f"{name} of {value.dtype} for {path}, which needs floating-point numbers")
        else:
            ordered = value.reshape([variable.shape[axis] for axis in axes])
            carried[path] = np.transpose(ordered, np.argsort(axes))
    problems = [
        f"{len(found)} {what}: {', '.join(found[:_LISTED])}{', ...' if len(found) > _LISTED else ''}"
        for what, found in (
            ("missing", missing),
            ("left over", left_over),
            ("given twice", doubled),
            ("of another shape", misfits),
        )
        if found
    ]
    if problems:
        raise PortingError(f"the weights do not fit {model.name}: {'; '.join(problems)}")
    for path, value in carried.items():
        slots[path][1].assign(value)


def _roles(layer):
    """(variable's name, variable) of a layer; a single kernel goes by "kernel", however the layer calls it."""
    named = [(variable.path.rpartition("/")[2], variable) for variable in layer.weights]
    kernels = [name for name, _ in named if name.endswith("kernel")]
    return [("kernel" if [name] == kernels else name, variable) for name, variable in named]


def _stored(layer, path, shape, layout):
    """Shape of our variable in the source's file, and our axes in the source's order."""
    if type(layer) in layout.kernels:
        kernel = layout.kernels[type(layer)].get(path.rpartition("/")[2], Kernel(tuple(range(len(shape)))))
        return tuple(kernel.stored(tuple(shape[axis] for axis in kernel.axes))), kernel.axes
    if path.endswith("/kernel"):
        raise PortingError(f"no order of axes is known for {type(layer).__name__} ({layer.name}) in this source")
    return shape, tuple(range(len(shape)))
