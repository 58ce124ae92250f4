"""The geometry of a two-dimensional convolution window: sizes, padding, and the taps of a window."""

from keras import ops


def pair(value, name):
    """`value` as a tuple of two positive integers."""
    result = (value, value) if isinstance(value, int) else tuple(value)
    if len(result) != 2 or not all(isinstance(v, int) and v > 0 for v in result):
        raise ValueError(f"{name} {value!r} is not a positive integer or a pair of them")
    return result


def output_size(size, kernel, stride, padding, dilation):
    """The number of windows along one axis of `size` elements; None if the size is unknown.

    Works on integers and on integer tensors.
    """
    if size is None:
        return None
    reach = (kernel - 1) * dilation
    return (size - 1) // stride + 1 if padding == "same" else (size - reach - 1) // stride + 1


def margin(size, kernel, stride, padding, dilation):
    """How many zeros `padding` puts before an axis of `size` elements, TensorFlow's way: the odd one goes after."""
    if padding == "valid":
        return 0
    short = (output_size(size, kernel, stride, padding, dilation) - 1) * stride + (kernel - 1) * dilation + 1 - size
    return max(short, 0) // 2 if isinstance(short, int) else ops.maximum(short, 0) // 2


def taps(images, kernel_size, strides, padding, dilation_rate, positions=None):
    """The pixels under each position of the window, position by position.

    Args:
        images: [batch, height, width, channels].
        positions: The positions (row, column) that are wanted, in order; all, row by row of the window, by default.

    Returns:
        A list of tensors [batch, output height, output width, channels], one a position.
    """
    if positions is None:
        positions = [(i, j) for i in range(kernel_size[0]) for j in range(kernel_size[1])]
    (top, bottom), (left, right) = (
        _span(ops.shape(images)[axis + 1], kernel_size[axis], strides[axis], padding, dilation_rate[axis])
        for axis in (0, 1)
    )
    # Padding by the most that can be needed keeps it static where the size is not; the slices then start later.
    most = [(0, 0), (0, 0)]
    for axis in (0, 1) if padding == "same" else ():
        reach = (kernel_size[axis] - 1) * dilation_rate[axis]
        if any(2 * position[axis] != kernel_size[axis] - 1 for position in positions):  # the middle never leaves
            most[axis] = (reach // 2, reach - reach // 2)
    if any(map(any, most)):
        images = ops.pad(images, ((0, 0), *most, (0, 0)))
    result = []
    for i, j in positions:
        row, column = most[0][0] + i * dilation_rate[0], most[1][0] + j * dilation_rate[1]
        result.append(images[:, row + top : row + bottom : strides[0], column + left : column + right : strides[1]])
    return result


def under_middle(images, kernel_size, strides, padding, dilation_rate):
    """The part of images [batch, height, width, channels] that the middle of an odd window moves over.

    A 1x1 convolution of it, with the window's strides and no padding, sees what the middle sees. Strides are for the
    convolution to take: a slice with steps costs TensorFlow's CPU more than the convolution.
    """
    (top, bottom), (left, right) = (
        _span(ops.shape(images)[axis + 1], kernel_size[axis], strides[axis], padding, dilation_rate[axis])
        for axis in (0, 1)
    )
    row, column = ((k - 1) // 2 * d for k, d in zip(kernel_size, dilation_rate, strict=True))
    return images[:, row + top : row + bottom, column + left : column + right]


def _span(size, kernel, stride, padding, dilation):
    """Where the window's first tap starts along an axis of `size` elements, negative in the padding, and ends."""
    start = -margin(size, kernel, stride, padding, dilation)
    return start, start + (output_size(size, kernel, stride, padding, dilation) - 1) * stride + 1
