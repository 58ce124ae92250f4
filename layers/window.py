"""Geometry of 2D convolutions: output sizes, "same" padding, the pixels under each tap, and the order of the axes.

A tap is one position (row, column) of the kernel. Padding is TensorFlow's: where "same" needs an odd number of zeros,
the extra one goes after the image. Images are [batch, height, width, channels].
"""

from keras import ops

from convzoo.layers.types import Pair, Size, Tensor


def to_channels_last(images: Tensor, data_format: str) -> Tensor:
    """Returns `images` of a Keras `data_format` as [batch, height, width, channels].

    TensorFlow's CPU kernels know no other layout, and XLA chooses its own whatever the layout of the graph.
    """
    return ops.transpose(images, (0, 2, 3, 1)) if data_format == "channels_first" else images


def from_channels_last(images: Tensor, data_format: str) -> Tensor:
    """Returns [batch, height, width, channels] `images` in a Keras `data_format`."""
    return ops.transpose(images, (0, 3, 1, 2)) if data_format == "channels_first" else images


def output_size(size: Size, kernel: int, stride: int, padding: str, dilation: int) -> Size:
    """Returns the number of outputs along one axis of `size` pixels: an integer or integer tensor, None for None."""
    if size is None:
        return None
    reach = (kernel - 1) * dilation
    return (size - 1) // stride + 1 if padding == "same" else (size - reach - 1) // stride + 1


def output_sizes(sizes, kernel_size, strides, padding, dilation_rate):
    """Returns (output height, output width) for `sizes` = (height, width), see `output_size`."""
    axes = zip(sizes, kernel_size, strides, dilation_rate, strict=True)
    return tuple(output_size(size, k, s, padding, d) for size, k, s, d in axes)


def margin(size: Size, kernel: int, stride: int, padding: str, dilation: int) -> Size:
    """Returns the number of zeros that `padding` puts before an axis of `size` pixels; the odd one goes after it."""
    if padding == "valid":
        return 0
    missing = (output_size(size, kernel, stride, padding, dilation) - 1) * stride + (kernel - 1) * dilation + 1 - size
    return max(missing, 0) // 2 if isinstance(missing, int) else ops.maximum(missing, 0) // 2


def taps(images, kernel_size, strides, padding, dilation_rate, positions=None):
    """Returns the pixels under each tap: a list of tensors [batch, output height, output width, channels].

    Args:
        images: [batch, height, width, channels].
        positions: The taps (row, column) to return, in this order. None for all of them, row by row.
    """
    if positions is None:
        positions = [(i, j) for i in range(kernel_size[0]) for j in range(kernel_size[1])]
    (top, bottom), (left, right) = _first_tap_spans(images, kernel_size, strides, padding, dilation_rate)
    # Padding by the largest amount that any image size needs keeps it static where the size is unknown; the slices
    # then start at an offset.
    pads = [(0, 0), (0, 0)]
    for axis in (0, 1) if padding == "same" else ():
        reach = (kernel_size[axis] - 1) * dilation_rate[axis]
        if any(2 * position[axis] != kernel_size[axis] - 1 for position in positions):  # the center needs no padding
            pads[axis] = (reach // 2, reach - reach // 2)
    if any(map(any, pads)):
        images = ops.pad(images, ((0, 0), *pads, (0, 0)))
    result = []
    for i, j in positions:
        row, column = pads[0][0] + i * dilation_rate[0], pads[1][0] + j * dilation_rate[1]
        result.append(images[:, row + top : row + bottom : strides[0], column + left : column + right : strides[1]])
    return result


def under_middle(images, kernel_size, strides, padding, dilation_rate):
    """Crops [batch, height, width, channels] `images` to the pixels from the first to the last under the center tap.

    A 1x1 convolution of the result with the same strides and no padding sees what the center of the (odd) kernel sees.
    The strides are left to that convolution: on TensorFlow's CPU a strided slice costs more than the convolution.
    """
    (top, bottom), (left, right) = _first_tap_spans(images, kernel_size, strides, padding, dilation_rate)
    row, column = ((k - 1) // 2 * d for k, d in zip(kernel_size, dilation_rate, strict=True))
    return images[:, row + top : row + bottom, column + left : column + right]


def _first_tap_spans(images, kernel_size, strides, padding, dilation_rate):
    """Returns where tap (0, 0) starts (negative inside the padding) and ends, (rows, columns) of the images."""
    spans = []
    for size, k, s, d in zip(ops.shape(images)[1:3], kernel_size, strides, dilation_rate, strict=True):
        start = -margin(size, k, s, padding, d)
        spans.append((start, start + (output_size(size, k, s, padding, d) - 1) * s + 1))
    return spans


def pair(value: Pair, name: str) -> tuple[int, ...]:
    """Returns `value` as a tuple of two positive integers."""
    result = (value, value) if isinstance(value, int) else tuple(value)
    if len(result) != 2 or not all(isinstance(v, int) and v > 0 for v in result):
        raise ValueError(f"{name}={value!r} is invalid; use a positive integer or a pair of them")
    return result
