"""The ways to compute a region-aware convolution.

With a bank of base kernels B_i and a position's coefficients c_i, its output is (sum_i c_i B_i) * x around it, which is
sum_i c_i (B_i * x) and, for 1 x 1 kernels, sum_i B_i * (c_i x): no kernel of an image or region need exist. Without a
bank the kernels of an image are made, one a region.

Images are channels-last and in the compute dtype; coefficients are float32 and so are sums over them.
"""

from keras import ops


def bank_outputs(convolve, images, kernel, coefficients, by_product):
    """All base kernels in one convolution.

    Args:
        convolve: A convolution (images, kernel [kh, kw, channels, any number of filters]).
        images: [batch, height, width, channels].
        kernel: [bank_size, kh, kw, channels, filters].
        coefficients: float32 [batch, out height, out width, bank_size]; heights and widths may be 1.
        by_product: Whether to sum by one small matrix product a position, the cheapest on a CPU, or by an
            element-wise product, which XLA fuses.
    """
    bank_size, *window, filters = kernel.shape
    z = convolve(images, ops.reshape(ops.transpose(kernel, (1, 2, 3, 0, 4)), (*window, bank_size * filters)))
    z = ops.cast(ops.reshape(z, (*ops.shape(z)[:3], bank_size, filters)), "float32")
    if by_product:
        y = ops.squeeze(ops.matmul(ops.expand_dims(coefficients, 3), z), 3)
    else:
        y = ops.sum(ops.expand_dims(coefficients, 4) * z, axis=3)
    return ops.cast(y, images.dtype)


def bank_inputs(images, kernel, coefficients):
    """1 x 1 base kernels in one convolution of inputs that are scaled for each; arguments as in `bank_outputs`."""
    bank_size, _, _, channels, filters = kernel.shape
    x = ops.cast(ops.expand_dims(images, 3), "float32") * ops.expand_dims(coefficients, 4)
    x = ops.reshape(ops.cast(x, images.dtype), (*ops.shape(images)[:3], bank_size * channels))
    return ops.matmul(x, ops.reshape(kernel, (bank_size * channels, filters)))


def bank_loop(convolve, images, kernel, coefficients):
    """One base kernel after the other; arguments as in `bank_outputs`."""
    of_each = ops.split(coefficients, kernel.shape[0], axis=3)
    y = 0.0
    for c, base in zip(of_each, ops.unstack(kernel), strict=True):
        y = y + c * ops.cast(convolve(images, base), "float32")
    return ops.cast(y, images.dtype)


def region_outputs(patches, kernels, mask):
    """Outputs for all regions, of which the mask keeps each position's.

    Args:
        patches: [batch, height, width, values].
        kernels: [batch, regions, values, filters].
        mask: [batch, height, width, regions], or None for one region.
    """
    batch, height, width, values = ops.shape(patches)
    x = ops.reshape(patches, (batch, height * width, values))
    regions, filters = kernels.shape[1], kernels.shape[3]
    z = ops.matmul(x, ops.reshape(ops.transpose(kernels, (0, 2, 1, 3)), (batch, values, regions * filters)))
    z = ops.reshape(z, (batch, height, width, regions, filters))
    return ops.squeeze(z, 3) if mask is None else ops.sum(z * ops.expand_dims(mask, 4), axis=3)


def region_inputs(patches, kernels, mask):
    """Inputs masked for each region, in one product with all its kernels; arguments as in `region_outputs`."""
    batch, height, width, values = ops.shape(patches)
    regions, filters = kernels.shape[1], kernels.shape[3]
    x = patches if mask is None else ops.expand_dims(patches, 3) * ops.expand_dims(mask, 4)
    x = ops.reshape(x, (batch, height * width, regions * values))
    y = ops.matmul(x, ops.reshape(kernels, (batch, regions * values, filters)))
    return ops.reshape(y, (batch, height, width, filters))
