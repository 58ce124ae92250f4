"""Gradients of depthwise convolutions, for `depthwise_implementations`.

In all functions kernel_size, strides and dilation_rate are pairs, and strides or dilation_rate are (1, 1).
"""

from keras import ops

from convzoo.layers import window


def kernel_gradient(image, d_outputs, kernel, kernel_size, strides, padding, dilation_rate):
    """Returns the gradient of the kernel of a depthwise convolution of one image.

    It is a depthwise convolution of the image with the gradient of the outputs. oneDNN's own gradient is fast only for
    a batch of images and 3x3 kernels; for one image, or one image with very many channels, it is many times slower.

    Args:
        image: [1, height, width, channels].
        d_outputs: Gradient of the outputs, [1, output height, output width, channels * multiplier].
        kernel: [kh, kw, channels, multiplier]; only shape and dtype are used.
    """
    axes = zip(ops.shape(image)[1:3], kernel_size, strides, dilation_rate, strict=True)
    pads = [_padding(size, k, s, padding, d) for size, k, s, d in axes]
    # float32, because these are sums over all pixels of the image.
    padded = ops.cast(ops.pad(image, ((0, 0), *pads, (0, 0))), "float32")
    d_outputs = ops.reshape(ops.cast(d_outputs, "float32"), (*ops.shape(d_outputs)[1:3], *ops.shape(kernel)[2:]))

    def correlate(row, column):
        """Returns the gradient at the taps whose position leaves the remainder (row, column) modulo the strides."""
        taps = ops.depthwise_conv(
            padded[:, row :: strides[0], column :: strides[1]],
            d_outputs,
            strides=dilation_rate,
            padding="valid",
            data_format="channels_last",
        )[0]
        # The image can extend beyond the last position of the kernel; then there are more results than taps.
        count = [-(-(k - first) // s) for k, s, first in zip(kernel_size, strides, (row, column), strict=True)]
        return taps[: count[0], : count[1]]

    if strides == (1, 1):
        taps = correlate(0, 0)
    else:
        phases = {
            (row, column): correlate(row, column)
            for row in range(min(strides[0], kernel_size[0]))
            for column in range(min(strides[1], kernel_size[1]))
        }
        taps = ops.stack(
            [
                phases[i % strides[0], j % strides[1]][i // strides[0], j // strides[1]]
                for i in range(kernel_size[0])
                for j in range(kernel_size[1])
            ]
        )
    return ops.cast(ops.reshape(taps, ops.shape(kernel)), kernel.dtype)


def images_gradient(images, kernels, d_outputs, kernel_size, strides, padding, dilation_rate):
    """Returns the gradient of images in a depthwise convolution with one kernel per image: a transposed convolution.

    It is computed separately for each phase of the strides. A phase is the pixels whose row and column, counted from
    the corner of the first window, leave the same remainders modulo the strides: the same taps see all of them.

    Args:
        images: [batch, height, width, channels]; only shape and dtype are used.
        kernels: [batch, kh, kw, channels].
        d_outputs: Gradient of the outputs, [batch, output height, output width, channels].
    """
    sizes = ops.shape(images)[1:3]
    axes = zip(sizes, kernel_size, strides, dilation_rate, strict=True)
    margins = [window.margin(size, k, s, padding, d) for size, k, s, d in axes]
    # Of each phase: the first row and column inside the image, the number of rows and columns, and how many of them
    # the kernel reaches back. Only strides of 1 can be dilated.
    first = [margin // s for margin, s in zip(margins, strides, strict=True)]
    counts = [-(-(n + margin) // s) - q for n, margin, s, q in zip(sizes, margins, strides, first, strict=True)]
    reach = [(k - 1) * d // s for k, d, s in zip(kernel_size, dilation_rate, strides, strict=True)]
    # The padding after the outputs covers the pixels that no window reaches.
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
    zeros = ops.zeros_like(phase(0, 0))
    phases = [
        phase(row, column) if row < kernel_size[0] and column < kernel_size[1] else zeros
        for row in range(strides[0])
        for column in range(strides[1])
    ]
    batch, _, _, channels = ops.shape(images)
    whole = ops.reshape(ops.stack(phases, axis=3), (batch, *counts, *strides, channels))
    whole = ops.reshape(ops.transpose(whole, (0, 1, 3, 2, 4, 5)), (batch, counts[0] * strides[0], -1, channels))
    top, left = (margin % s for margin, s in zip(margins, strides, strict=True))
    return whole[:, top : top + sizes[0], left : left + sizes[1]]


def kernels_gradient(images, kernels, d_outputs, *geometry):
    """Returns the gradient of `kernels` [batch, kh, kw, channels]; arguments as in `images_gradient`."""
    d_outputs = ops.cast(d_outputs, "float32")
    sums = [ops.sum(ops.cast(tap, "float32") * d_outputs, axis=(1, 2)) for tap in window.taps(images, *geometry)]
    sums = ops.reshape(ops.stack(sums, axis=1), (-1, *kernels.shape[1:]))
    return ops.cast(sums, kernels.dtype)


def _padding(size, k, s, padding, d):
    """Returns the numbers of zeros before and after an axis of `size` pixels."""
    before = window.margin(size, k, s, padding, d)
    after = (window.output_size(size, k, s, padding, d) - 1) * s + (k - 1) * d + 1 - size - before
    return before, max(after, 0) if isinstance(after, int) else ops.maximum(after, 0)
