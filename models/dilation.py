"""Dilation in place of strides, for feature maps of finer resolution (DeepLab, arXiv 1606.00915)."""

import math

import keras

from convzoo.errors import ModelError
from convzoo.models.graph import calls, check_flat, clone_with


def strides_of(model: keras.Model) -> dict[int, int]:
    """Returns the stride of every 4-D tensor relative to the model's input, in pixels, by the tensor's `id`.

    Example:
        >>> inputs = keras.Input((32, 32, 3))
        >>> model = keras.Model(inputs, keras.layers.Conv2D(4, 3, strides=2, padding="same")(inputs))
        >>> strides_of(model)[id(model.output)]
        2
    """
    return {tensor: stride for tensor, (stride, _) in _plan(model, math.inf)[0].items()}


def dilate(model: keras.Model, output_stride: int) -> keras.Model:
    """Limits the stride of a model's feature maps by replacing strides with dilation.

    A layer whose stride would exceed `output_stride` gets stride 1, and the windows of all later layers are dilated by
    the removed factor, so that every weight sees the same pixels as before. With symmetric padding the old feature maps
    are exactly contained in the new ones, at every second or fourth position. Squeeze-and-excitation, CondConv routing
    and other functions of a global average change slightly.

    Args:
        model: A functional `keras.Model`, ours or not.
        output_stride: Largest stride of the last feature map, in pixels, for example 16 or 8.

    Returns:
        A new model with copies of the weights; `model` is unchanged.

    Raises:
        ModelError: The output stride is not a power of two, or a layer cannot be dilated.

    Example:
        >>> inputs = keras.Input((32, 32, 3))
        >>> x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(inputs)
        >>> model = keras.Model(inputs, keras.layers.Conv2D(4, 3, strides=2, padding="same", name="last")(x))
        >>> dilated = dilate(model, output_stride=2)
        >>> model.output_shape, dilated.output_shape
        ((None, 8, 8, 4), (None, 16, 16, 4))
    """
    if output_stride < 1 or output_stride & (output_stride - 1):
        raise ModelError(f"output_stride must be a power of two, for example 8 or 16, not {output_stride!r}")
    check_flat(model)
    _, changes = _plan(model, output_stride)
    result = clone_with(
        model, lambda layer: layer.__class__.from_config({**layer.get_config(), **changes.get(layer.name, {})})
    )
    result.set_weights(model.get_weights())
    for layer in result.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # derives its constants from the weights
    return result


def _plan(model, output_stride):
    """Returns {tensor id: (stride, dilation)} and {layer name: changed arguments} for `output_stride`."""
    resolutions, changes = {}, {}
    for call in calls(model):
        layer = call.operation
        stride, dilation = max((resolutions[id(t)] for t in call.input_tensors if id(t) in resolutions), default=(1, 1))
        layer_stride, previous = _stride(layer), changes.get(layer.name)
        if isinstance(layer, keras.layers.ZeroPadding2D) and dilation > 1:
            # The padding of the next layer's window grows with its dilation.
            changes[layer.name] = {"padding": [[edge * dilation for edge in pair] for pair in layer.padding]}
        elif stride * layer_stride > output_stride:
            changes[layer.name] = {"strides": (1, 1), **_dilated(layer, dilation)}
            dilation, layer_stride = dilation * layer_stride, 1
        elif dilation > 1 and (arguments := _dilated(layer, dilation)):
            changes[layer.name] = arguments
        if previous not in (None, changes.get(layer.name)):
            raise ModelError(f"{layer.name} is shared between feature maps of different resolution; cannot dilate it")
        for tensor in call.outputs:
            if len(tensor.shape) == 4:
                resolutions[id(tensor)] = (stride * layer_stride, dilation)
    return resolutions, changes


def _stride(layer) -> int:
    if isinstance(layer, (keras.layers.Conv2DTranspose, keras.layers.UpSampling2D)):
        raise ModelError(f"{layer.name} is a {type(layer).__name__}; a network that upsamples cannot be dilated")
    strides = getattr(layer, "strides", (1, 1))
    if len(set(strides)) > 1:
        raise ModelError(f"{layer.name} has unequal strides {tuple(strides)}; such a network cannot be dilated")
    return strides[0]


def _dilated(layer, dilation):
    """Returns the argument that dilates a layer's window, or {} for a layer without a window."""
    window = getattr(layer, "kernel_size", getattr(layer, "pool_size", (1, 1)))
    if dilation == 1 or max(window) == 1:
        return {}
    if not hasattr(layer, "dilation_rate"):
        raise ModelError(f"{layer.name} is a {type(layer).__name__}, which has no dilation; use a larger output_stride")
    return {"dilation_rate": tuple(rate * dilation for rate in layer.dilation_rate)}
