"""A depthwise convolution with a kernel of its own for every example, one example after another."""

from keras import ops

from convzoo.layers import window


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
        image = image[None]
        return ops.depthwise_conv(
            image, kernel, strides, padding, data_format="channels_last", dilation_rate=dilation_rate
        )[0]

    @ops.custom_gradient
    def with_gradient_of_kernel(outputs, image, kernel):
        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            d_kernel = _d_kernel(image, upstream, kernel, kernel_size, strides, padding, dilation_rate)
            return upstream, ops.zeros_like(image), d_kernel

        return outputs, gradient

    def one(pair):
        image, kernel = pair
        if dilation_rate[0] != dilation_rate[1]:
            return convolve(image, kernel)
        # The kernel's gradient is a convolution of its own. oneDNN's gradient of a depthwise kernel is several times
        # slower on a single image: with it on, whole layers took 0.6 to 0.8 of their time this way, and 1.0 to 1.2 of
        # it with oneDNN off, where everything is slower. scripts/benchmark_layers.py has the shapes.
        outputs = convolve(image, ops.stop_gradient(kernel))
        return with_gradient_of_kernel(outputs, ops.stop_gradient(image), kernel)

    return ops.map(one, (images, kernels))


def _d_kernel(image, d_outputs, kernel, kernel_size, strides, padding, dilation_rate):
    """The image convolved with the gradient of the outputs: strides and dilation change places."""
    pads = []
    for axis in (0, 1):
        size, k, s, d = ops.shape(image)[axis], kernel_size[axis], strides[axis], dilation_rate[axis]
        before = window.margin(size, k, s, padding, d)
        after = (window.output_size(size, k, s, padding, d) - 1) * s + (k - 1) * d + 1 - size - before
        pads.append((before, max(after, 0) if isinstance(after, int) else ops.maximum(after, 0)))
    d_kernel = ops.depthwise_conv(
        # Sums over all pixels of an image are kept in float32.
        ops.cast(ops.pad(image, (*pads, (0, 0)))[None], "float32"),
        ops.reshape(ops.cast(d_outputs, "float32"), (*ops.shape(d_outputs)[:2], *kernel.shape[2:])),
        strides=dilation_rate,
        padding="valid",
        data_format="channels_last",
        dilation_rate=strides,
    )
    # Pixels behind the last window make room for more positions than the kernel has.
    d_kernel = d_kernel[0, : kernel_size[0], : kernel_size[1]]
    return ops.cast(ops.reshape(d_kernel, kernel.shape), kernel.dtype)
