"""A depthwise convolution with a kernel of its own for every example, as a sum over the positions of the window."""

from keras import ops

from convzoo.layers import window


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

    @ops.custom_gradient
    def convolve(images, kernels):
        outputs = _sum(window.taps(images, *geometry), kernels)

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            d_outputs = ops.reshape(upstream, (*ops.shape(upstream)[:3], -1, multiplier))
            return _d_images(images, kernels, d_outputs, *geometry), _d_kernels(images, kernels, d_outputs, *geometry)

        return ops.reshape(outputs, (*ops.shape(outputs)[:3], -1)), gradient

    return convolve(images, kernels)


def _positions(kernels):
    return [kernels[:, i, None, None, j] for i in range(kernels.shape[1]) for j in range(kernels.shape[2])]


def _sum(taps, kernels):
    total = 0.0
    for tap, weight in zip(taps, _positions(kernels), strict=True):
        # Slice, then cast: a cast of the whole image first keeps XLA from fusing the slices.
        total = total + ops.cast(tap, "float32")[..., None] * ops.cast(weight, "float32")
    return ops.cast(total, kernels.dtype)


def _d_images(images, kernels, d_outputs, kernel_size, strides, padding, dilation_rate):
    """The transposed convolution: outputs spread out by the strides, convolved with the kernel turned round."""
    sizes = ops.shape(images)[1:3]
    reach = [(k - 1) * d for k, d in zip(kernel_size, dilation_rate, strict=True)]
    batch, height, width, channels, multiplier = ops.shape(d_outputs)
    g = d_outputs
    if max(strides) > 1:
        g = ops.reshape(g, (batch, height, 1, width, 1, channels, multiplier))
        g = ops.pad(g, ((0, 0), (0, 0), (0, strides[0] - 1), (0, 0), (0, strides[1] - 1), (0, 0), (0, 0)))
        g = ops.reshape(g, (batch, height * strides[0], width * strides[1], channels, multiplier))
    # Behind, one stride more than the reach covers the pixels that no window touches.
    spare = [(r, r + s - 1) for r, s in zip(reach, strides, strict=True)]
    g = ops.pad(g, ((0, 0), *spare, (0, 0), (0, 0)))
    first = [
        window.margin(size, k, s, padding, d) + r
        for size, k, s, d, r in zip(sizes, kernel_size, strides, dilation_rate, reach, strict=True)
    ]
    total = 0.0
    positions = iter(_positions(kernels))
    for i in range(kernel_size[0]):
        top = first[0] - i * dilation_rate[0]
        for j in range(kernel_size[1]):
            left = first[1] - j * dilation_rate[1]
            tap = g[:, top : top + sizes[0], left : left + sizes[1]]
            total = total + ops.sum(ops.cast(tap, "float32") * ops.cast(next(positions), "float32"), axis=-1)
    return ops.cast(total, images.dtype)


def _d_kernels(images, kernels, d_outputs, kernel_size, strides, padding, dilation_rate):
    g = ops.cast(d_outputs, "float32")
    taps = window.taps(images, kernel_size, strides, padding, dilation_rate)
    sums = [ops.sum(ops.cast(tap, "float32")[..., None] * g, axis=(1, 2)) for tap in taps]
    sums = ops.reshape(ops.stack(sums, axis=1), (-1, *kernels.shape[1:]))
    return ops.cast(sums, kernels.dtype)
