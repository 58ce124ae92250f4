"""The gradient of a depthwise kernel as a depthwise convolution of its own.

oneDNN's gradient of a depthwise kernel is good for a batch of images and 3 x 3 windows. For one image, or one image of
very many channels, it is many times slower than a convolution of the image with the gradient of its outputs.
"""

from keras import ops

from convzoo.layers import window
from convzoo.layers.own_gradient import own_gradient


def with_own_kernel_gradient(convolve, images, kernel, kernel_size, strides, padding, dilation_rate=(1, 1)):
    """`convolve(images, kernel)`, with the kernel's gradient computed by `kernel_gradient`.

    Args:
        convolve: A depthwise convolution with the geometry that the other arguments tell.
        images: [1, height, width, channels].
        kernel: [kh, kw, channels, multiplier].
        strides, dilation_rate: pairs, one of which is (1, 1).
    """

    @own_gradient
    def attach(outputs, images, kernel):
        def gradient(upstream):
            d_kernel = kernel_gradient(images, upstream, kernel, kernel_size, strides, padding, dilation_rate)
            return upstream, ops.zeros_like(images), d_kernel

        return outputs, gradient

    outputs = convolve(images, ops.stop_gradient(kernel))
    return attach(outputs, ops.stop_gradient(images), kernel)


def kernel_gradient(images, d_outputs, kernel, kernel_size, strides, padding, dilation_rate):
    """The gradient of `kernel` for the gradient `d_outputs` [1, out height, out width, channels * multiplier]."""
    sizes = ops.shape(images)[1:3]
    pads = [
        _pad(size, k, s, padding, d) for size, k, s, d in zip(sizes, kernel_size, strides, dilation_rate, strict=True)
    ]
    # Sums over all pixels of an image are kept in float32.
    padded = ops.cast(ops.pad(images, ((0, 0), *pads, (0, 0))), "float32")
    windows = ops.reshape(ops.cast(d_outputs, "float32"), (*ops.shape(d_outputs)[1:3], *ops.shape(kernel)[2:]))

    def correlate(rows, columns):
        # Rows i with i % stride = `rows` see every stride-th pixel alone.
        taps = ops.depthwise_conv(
            padded[:, rows :: strides[0], columns :: strides[1]],
            windows,
            strides=dilation_rate,
            padding="valid",
            data_format="channels_last",
        )[0]
        # Pixels behind the last window make room for more positions than the kernel has.
        count = [-(-(k - first) // s) for k, s, first in zip(kernel_size, strides, (rows, columns), strict=True)]
        return taps[: count[0], : count[1]]

    if strides == (1, 1):
        taps = correlate(0, 0)
    else:
        phases = {
            (a, b): correlate(a, b)
            for a in range(min(strides[0], kernel_size[0]))
            for b in range(min(strides[1], kernel_size[1]))
        }
        taps = ops.stack(
            [
                phases[i % strides[0], j % strides[1]][i // strides[0], j // strides[1]]
                for i in range(kernel_size[0])
                for j in range(kernel_size[1])
            ]
        )
    return ops.cast(ops.reshape(taps, ops.shape(kernel)), kernel.dtype)


def _pad(size, k, s, padding, d):
    """Zeros before and after an axis of `size` elements."""
    before = window.margin(size, k, s, padding, d)
    after = (window.output_size(size, k, s, padding, d) - 1) * s + (k - 1) * d + 1 - size - before
    return before, max(after, 0) if isinstance(after, int) else ops.maximum(after, 0)
