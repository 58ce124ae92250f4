"""A depthwise convolution with a kernel of its own for every example, one example after another."""

from keras import ops

from convzoo.layers.depthwise_gradient import with_own_kernel_gradient


def depthwise_map(images, kernels, kernel_size, strides, padding, dilation_rate):
    """Depthwise convolution of each image with its own kernel.

    Args:
        images: [batch, height, width, channels].
        kernels: [batch, kh, kw, channels, multiplier].
        strides: a square pair.

    Returns:
        [batch, output height, output width, channels * multiplier].
    """

    def convolve(image, kernel):
        return ops.depthwise_conv(
            image, kernel, strides, padding, data_format="channels_last", dilation_rate=dilation_rate
        )

    def one(pair):
        # Reshaped, not indexed: the gradient of an index is a copy into zeros.
        image, kernel = ops.expand_dims(pair[0], 0), pair[1]
        if dilation_rate[0] != dilation_rate[1]:
            return ops.squeeze(convolve(image, kernel), 0)
        # With oneDNN on, whole layers took 0.6 to 0.8 of their time this way, and 1.0 to 1.2 of it with oneDNN off,
        # where everything is slower. scripts/benchmark_layers.py has the shapes.
        outputs = with_own_kernel_gradient(convolve, image, kernel, kernel_size, strides, padding, dilation_rate)
        return ops.squeeze(outputs, 0)

    return ops.map(one, (images, kernels))
