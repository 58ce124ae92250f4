"""Networks that end at a finer resolution: strides replaced by dilation (DeepLab, arXiv 1606.00915)."""

import math

import keras

from convzoo.models.errors import ModelError
from convzoo.models.graph import calls, check_flat


def strides_of(model: keras.Model) -> dict[int, int]:
    """How many pixels of the input lie between two positions of each image-shaped tensor, by the tensor's `id`."""
    return {tensor: stride for tensor, (stride, _) in _plan(model, math.inf)[0].items()}


def dilate(model: keras.Model, output_stride: int) -> keras.Model:
    """The same network with the same weights, whose feature maps are no coarser than one position in `output_stride`.

    Where a layer's stride would make them coarser the stride goes, and from there on windows are dilated by as much, so
    that every weight sees the pixels that it saw. With symmetric padding the new maps hold the old ones, at every
    second or fourth position; what a network derives from the average of a map changes a little.

    Args:
        model: A functional `keras.Model`, ours or not.
        output_stride: Pixels of the input between two positions of the last map, as 16 or 8.

    Returns:
        A new model, with copies of the weights; `model` is left alone.

    Raises:
        ModelError: The stride is no power of two, or the network cannot take it.
    """
    if output_stride < 1 or output_stride & (output_stride - 1):
        raise ModelError(f"output_stride must be a power of two, as 8 or 16, not {output_stride!r}")
    check_flat(model)
    _, changes = _plan(model, output_stride)

    def clone(layer):
        return layer.__class__.from_config({**layer.get_config(), **changes.get(layer.name, {})})

    inputs = keras.tree.map_structure(
        lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name), model.input
    )
    result = keras.models.clone_model(model, input_tensors=inputs, clone_function=clone)
    result.set_weights(model.get_weights())
    return result


def _plan(model, output_stride):
    """What each tensor's stride and dilation become, by id, and the arguments that change, by the layer's name."""
    reached, changes = {}, {}
    for call in calls(model):
        layer = call.operation
        stride, dilation = max((reached[id(t)] for t in call.input_tensors if id(t) in reached), default=(1, 1))
        step, before = _step(layer), changes.get(layer.name)
        if isinstance(layer, keras.layers.ZeroPadding2D) and dilation > 1:
            # It makes room for the window that comes next.
            changes[layer.name] = {"padding": [[edge * dilation for edge in pair] for pair in layer.padding]}
        elif stride * step > output_stride:
            changes[layer.name] = {"strides": (1, 1), **_dilated(layer, dilation)}
            dilation, step = dilation * step, 1
        elif dilation > 1:
            changes.update({layer.name: new} if (new := _dilated(layer, dilation)) else {})
        if before not in (None, changes.get(layer.name)):
            raise ModelError(f"{layer.name} is used at several resolutions; such a network cannot be dilated")
        for tensor in call.outputs:
            if len(tensor.shape) == 4:
                reached[id(tensor)] = (stride * step, dilation)
    return reached, changes


def _step(layer) -> int:
    if isinstance(layer, (keras.layers.Conv2DTranspose, keras.layers.UpSampling2D)):
        raise ModelError(f"{layer.name} is a {type(layer).__name__}; only networks that grow coarser can be dilated")
    strides = getattr(layer, "strides", (1, 1))
    if len(set(strides)) > 1:
        raise ModelError(f"{layer.name} has unequal strides {tuple(strides)}; such a network cannot be dilated")
    return strides[0]


def _dilated(layer, dilation):
    """The argument that dilates a layer's window, if it has one."""
    window = getattr(layer, "kernel_size", getattr(layer, "pool_size", (1, 1)))
    if dilation == 1 or max(window) == 1:
        return {}
    if not hasattr(layer, "dilation_rate"):
        raise ModelError(f"{layer.name} is a {type(layer).__name__}, which cannot be dilated; take a larger stride")
    return {"dilation_rate": tuple(rate * dilation for rate in layer.dilation_rate)}
