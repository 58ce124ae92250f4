"""A depthwise convolution with a kernel of its own for every example, as one of all examples' channels together."""

from keras import ops

from convzoo.layers.depthwise_gradient import with_own_kernel_gradient


def depthwise_group(images, kernels, kernel_size, strides, padding, own_gradient):
    """Depthwise convolution of each image with its own kernel.

    Args:
        images: [batch, height, width, channels].
        kernels: [batch, kh, kw, channels, multiplier].
        strides: a square pair.
        own_gradient: whether the kernels' gradient is a convolution of its own.

    Returns:
        [batch, output height, output width, channels * multiplier].
    """
    batch, height, width, channels = ops.shape(images)
    multiplier = kernels.shape[-1]
    x = ops.reshape(ops.transpose(images, (1, 2, 0, 3)), (1, height, width, batch * channels))
    kernel = ops.reshape(ops.transpose(kernels, (1, 2, 0, 3, 4)), (*kernel_size, batch * channels, multiplier))

    def convolve(x, kernel):
        return ops.depthwise_conv(x, kernel, strides, padding, data_format="channels_last")

    if own_gradient:
        y = with_own_kernel_gradient(convolve, x, kernel, kernel_size, strides, padding)
    else:
        y = convolve(x, kernel)
    y = ops.reshape(y, (*ops.shape(y)[1:3], batch, channels * multiplier))
    return ops.transpose(y, (2, 0, 1, 3))
