"""A depthwise convolution with a kernel of its own for every example, as a sum over the positions of the window."""

from keras import ops

from convzoo.layers import window
from convzoo.layers.own_gradient import own_gradient


def depthwise_taps(images, kernels, kernel_size, strides, padding, dilation_rate):
    """Depthwise convolution of each image with its own kernel.

    It has a gradient of its own: left to itself, differentiation keeps the products of every position of the window,
    kh * kw times the memory of the images.

    Args:
        images: [batch, height, width, channels].
        kernels: [batch, kh, kw, channels, multiplier].

    Returns:
        [batch, output height, output width, channels * multiplier], summed in float32 and returned in images' dtype.
    """
    multiplier = kernels.shape[-1]
    geometry = (kernel_size, strides, padding, dilation_rate)
    if multiplier > 1:
        # Each channel as many times as it has outputs: the sums then have no axis more than the images.
        return depthwise_taps(
            ops.repeat(images, multiplier, axis=3),
            ops.reshape(kernels, (-1, *kernels.shape[1:3], kernels.shape[3] * multiplier, 1)),
            *geometry,
        )

    @own_gradient
    def convolve(images, kernels):
        def gradient(g):
            return _d_images(images, kernels, g, *geometry), _d_kernels(images, kernels, g, *geometry)

        return _sum(window.taps(images, *geometry), kernels), gradient

    return convolve(images, ops.squeeze(kernels, axis=4))


def _sum(taps, kernels):
    positions = [kernels[:, i, None, None, j] for i in range(kernels.shape[1]) for j in range(kernels.shape[2])]
    total = 0.0
    for tap, weight in zip(taps, positions, strict=True):
        # Slice, then cast: a cast of the whole image first keeps XLA from fusing the slices.
        total = total + ops.cast(tap, "float32") * ops.cast(weight, "float32")
    return ops.cast(total, kernels.dtype)


def _d_images(images, kernels, d_outputs, kernel_size, strides, padding, dilation_rate):
    """The transposed convolution, for each phase of the strides by itself.

    Pixels whose place, counted from the first window's corner, leaves the same remainder when divided by the strides
    see the same positions of the window: with strides of 2 a quarter of them each.
    """
    sizes = ops.shape(images)[1:3]
    before = [
        window.margin(size, k, s, padding, d)
        for size, k, s, d in zip(sizes, kernel_size, strides, dilation_rate, strict=True)
    ]
    # The first row and column of a phase that lies in the image, their number, and how far the window reaches back
    # among them. Only strides of 1 can be dilated.
    first = [margin // s for margin, s in zip(before, strides, strict=True)]
    counts = [-(-(n + margin) // s) - q for n, margin, s, q in zip(sizes, before, strides, first, strict=True)]
    reach = [(k - 1) * d // s for k, d, s in zip(kernel_size, dilation_rate, strides, strict=True)]
    # Behind, as many as there can be that no window touches.
    d_outputs = ops.pad(d_outputs, ((0, 0), *((r, r + 1) for r in reach), (0, 0)))

    def phase(row, column):
        total = 0.0
        for i in range(row, kernel_size[0], strides[0]):
            top = reach[0] + first[0] - (i - row) * dilation_rate[0] // strides[0]
            for j in range(column, kernel_size[1], strides[1]):
                left = reach[1] + first[1] - (j - column) * dilation_rate[1] // strides[1]
                tap = d_outputs[:, top : top + counts[0], left : left + counts[1]]
                total = total + ops.cast(tap, "float32") * ops.cast(kernels[:, i, None, None, j], "float32")
        return ops.cast(total, images.dtype)

    if strides == (1, 1):
        return phase(0, 0)
    none = ops.zeros_like(phase(0, 0))
    phases = [
        phase(row, column) if row < kernel_size[0] and column < kernel_size[1] else none
        for row in range(strides[0])
        for column in range(strides[1])
    ]
    batch, _, _, channels = ops.shape(images)
    whole = ops.reshape(ops.stack(phases, axis=3), (batch, *counts, *strides, channels))
    whole = ops.reshape(ops.transpose(whole, (0, 1, 3, 2, 4, 5)), (batch, counts[0] * strides[0], -1, channels))
    (top, left), (height, width) = [margin % s for margin, s in zip(before, strides, strict=True)], sizes
    return whole[:, top : top + height, left : left + width]


def _d_kernels(images, kernels, d_outputs, kernel_size, strides, padding, dilation_rate):
    g = ops.cast(d_outputs, "float32")
    taps = window.taps(images, kernel_size, strides, padding, dilation_rate)
    sums = [ops.sum(ops.cast(tap, "float32") * g, axis=(1, 2)) for tap in taps]
    sums = ops.reshape(ops.stack(sums, axis=1), (-1, *kernels.shape[1:]))
    return ops.cast(sums, kernels.dtype)
