"""Depthwise convolutions of a batch in which each image has its own kernel.

In all functions images are [batch, height, width, channels], kernels are [batch, kh, kw, channels, multiplier], and the
result is [batch, output height, output width, channels * multiplier]. strides and dilation_rate are pairs, one of which
is (1, 1).
"""

from keras import ops

from convzoo.layers import depthwise_gradients, window
from convzoo.layers.custom_gradient import custom_gradient


def depthwise_map(images, kernels, kernel_size, strides, padding, dilation_rate):
    """Loops over the batch with one depthwise convolution per image; strides must be equal."""
    geometry = (kernel_size, strides, padding, dilation_rate)

    def convolve_one(pair):
        # Expanded and squeezed instead of indexed: the gradient of indexing is a copy into zeros.
        image, kernel = ops.expand_dims(pair[0], 0), pair[1]
        if dilation_rate[0] != dilation_rate[1]:
            return ops.squeeze(_depthwise_conv(image, kernel, *geometry), 0)
        # Faster than oneDNN's own gradient on CPU; see docs/implementations.md.
        return ops.squeeze(_depthwise_conv_with_kernel_gradient(image, kernel, *geometry), 0)

    return ops.map(convolve_one, (images, kernels))


def depthwise_group(images, kernels, kernel_size, strides, padding, dilation_rate, kernel_gradient):
    """Computes one depthwise convolution of one image with batch * channels channels; strides must be equal.

    Args:
        kernel_gradient: Whether `depthwise_gradients.kernel_gradient` replaces the gradient of the backend.
    """
    batch, height, width, channels = ops.shape(images)
    multiplier = kernels.shape[-1]
    x = ops.reshape(ops.transpose(images, (1, 2, 0, 3)), (1, height, width, batch * channels))
    kernel = ops.reshape(ops.transpose(kernels, (1, 2, 0, 3, 4)), (*kernel_size, batch * channels, multiplier))
    convolve = _depthwise_conv_with_kernel_gradient if kernel_gradient else _depthwise_conv
    y = convolve(x, kernel, kernel_size, strides, padding, dilation_rate)
    y = ops.reshape(y, (*ops.shape(y)[1:3], batch, channels * multiplier))
    return ops.transpose(y, (2, 0, 1, 3))


def depthwise_taps(images, kernels, kernel_size, strides, padding, dilation_rate):
    """Sums the pixels under each tap times the kernels' value there, in float32; returns the images' dtype.

    It has a custom gradient, because automatic differentiation keeps the products of all taps, which take kh * kw times
    the memory of the images.
    """
    multiplier = kernels.shape[-1]
    geometry = (kernel_size, strides, padding, dilation_rate)
    if multiplier > 1:
        # Each channel is repeated once per output, so that the sums need no axis for the multiplier.
        images = ops.repeat(images, multiplier, axis=3)
        kernels = ops.reshape(kernels, (-1, *kernels.shape[1:3], kernels.shape[3] * multiplier, 1))

    @custom_gradient
    def convolve(images, kernels):
        def gradient(upstream):
            return (
                depthwise_gradients.images_gradient(images, kernels, upstream, *geometry),
                depthwise_gradients.kernels_gradient(images, kernels, upstream, *geometry),
            )

        total = 0.0
        positions = [(i, j) for i in range(kernel_size[0]) for j in range(kernel_size[1])]
        for (i, j), tap in zip(positions, window.taps(images, *geometry), strict=True):
            # Slices are cast, not the whole image: XLA would not fuse slices of a cast image.
            value = ops.reshape(kernels[:, i, j], (-1, 1, 1, kernels.shape[3]))
            total = total + ops.cast(tap, "float32") * ops.cast(value, "float32")
        return ops.cast(total, kernels.dtype), gradient

    return convolve(images, ops.squeeze(kernels, axis=4))


def _depthwise_conv(images, kernel, kernel_size, strides, padding, dilation_rate):
    """Returns Keras's depthwise convolution of `images` with one `kernel` [kh, kw, channels, multiplier]."""
    return ops.depthwise_conv(
        images, kernel, strides, padding, data_format="channels_last", dilation_rate=dilation_rate
    )


def _depthwise_conv_with_kernel_gradient(image, kernel, *geometry):
    """Computes `_depthwise_conv` of one image, with `depthwise_gradients.kernel_gradient` for its kernel."""

    @custom_gradient
    def attach_kernel_gradient(outputs, image, kernel):
        def gradient(upstream):
            d_kernel = depthwise_gradients.kernel_gradient(image, upstream, kernel, *geometry)
            return upstream, ops.zeros_like(image), d_kernel

        return outputs, gradient

    outputs = _depthwise_conv(image, ops.stop_gradient(kernel), *geometry)
    return attach_kernel_gradient(outputs, ops.stop_gradient(image), kernel)
