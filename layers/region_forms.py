"""The ways to compute a region-aware convolution.

With a bank of base kernels B_i and a position's coefficients c_i, its output is (sum_i c_i B_i) * x around it, which is
sum_i c_i (B_i * x) and, for 1 x 1 kernels, sum_i B_i * (c_i x): no kernel of an image or region need exist. Without a
bank the kernels of an image are made, one a region.

Images are channels-last and in the compute dtype; coefficients are in the weights' dtype, and so are sums over them.
"""

from keras import ops


def bank_outputs(convolve, images, kernel, coefficients):
    """All base kernels in one convolution.

    Args:
        convolve: A convolution (images, kernel [kh, kw, channels, any number of filters]).
        images: [batch, height, width, channels].
        kernel: [bank_size, kh, kw, channels, filters].
        coefficients: [batch, out height, out width, bank_size]; heights and widths may be 1.
    """
    bank_size, *window, filters = kernel.shape
    z = convolve(images, ops.reshape(ops.transpose(kernel, (1, 2, 3, 0, 4)), (*window, bank_size * filters)))
    z = ops.cast(ops.reshape(z, (*ops.shape(z)[:3], bank_size, filters)), coefficients.dtype)
    return ops.cast(ops.sum(ops.expand_dims(coefficients, 4) * z, axis=3), images.dtype)


def bank_inputs(images, kernel, coefficients):
    """1 x 1 base kernels in one product with inputs that are scaled for each; arguments as in `bank_outputs`."""
    bank_size, _, _, channels, filters = kernel.shape
    return ops.matmul(_scaled(images, coefficients), ops.reshape(kernel, (bank_size * channels, filters)))


def bank_loop(convolve, images, kernel, coefficients):
    """One base kernel after the other; arguments as in `bank_outputs`."""
    of_each = ops.split(coefficients, kernel.shape[0], axis=3)
    y = 0.0
    for c, base in zip(of_each, ops.unstack(kernel), strict=True):
        y = y + c * ops.cast(convolve(images, base), c.dtype)
    return ops.cast(y, images.dtype)


def with_own_gradient(form, images, kernel, coefficients, at_once):
    """`form(images, kernel, coefficients)` of 1 x 1 base kernels, with a gradient that keeps nothing of bank_size times
    the outputs or inputs from the forward pass to the backward.

    With g the gradient of the outputs and V_i = B_i^T g, the gradients are sum_i c_i V_i of the images, <x, V_i> of
    c_i, and the sum over positions of c_i x g^T of B_i.

    Args:
        form: One of the above, with its other arguments bound.
        images, kernel, coefficients: As in `bank_outputs`; coefficients of every position.
        at_once: Whether to compute for all base kernels at once, or for one after the other.
    """
    bank_size, _, _, channels, filters = kernel.shape

    @ops.custom_gradient
    def compute(images, kernel, coefficients):
        def gradient(*args, upstream=None):
            g = args[0] if upstream is None else upstream
            columns = ops.reshape(g, (-1, filters))
            if at_once:
                bank = ops.reshape(kernel, (bank_size * channels, filters))
                v = ops.reshape(ops.matmul(g, ops.transpose(bank)), (*ops.shape(g)[:3], bank_size, channels))
                v = ops.cast(v, coefficients.dtype)
                d_images = ops.sum(ops.expand_dims(coefficients, 4) * v, axis=3)
                d_coefficients = ops.sum(ops.expand_dims(ops.cast(images, v.dtype), 3) * v, axis=4)
                scaled = ops.reshape(_scaled(images, coefficients), (-1, bank_size * channels))
                d_kernel = ops.matmul(ops.transpose(scaled), columns)
            else:
                x, d_images, d_coefficients, d_kernel = ops.cast(images, coefficients.dtype), 0.0, [], []
                for c, base in zip(ops.split(coefficients, bank_size, axis=3), ops.unstack(kernel), strict=True):
                    v = ops.cast(ops.matmul(g, ops.transpose(base[0, 0])), c.dtype)
                    d_images = d_images + c * v
                    d_coefficients.append(ops.sum(x * v, axis=3, keepdims=True))
                    scaled = ops.reshape(ops.cast(c * x, images.dtype), (-1, channels))
                    d_kernel.append(ops.matmul(ops.transpose(scaled), columns))
                d_coefficients = ops.concatenate(d_coefficients, axis=3)
                d_kernel = ops.stack(d_kernel)
            return ops.cast(d_images, images.dtype), ops.reshape(d_kernel, kernel.shape), d_coefficients

        return form(images, kernel, coefficients), gradient

    return compute(images, kernel, coefficients)


def _scaled(images, coefficients):
    """The images times each coefficient, [batch, height, width, bank_size * channels]."""
    x = ops.expand_dims(ops.cast(images, coefficients.dtype), 3) * ops.expand_dims(coefficients, 4)
    return ops.reshape(ops.cast(x, images.dtype), (*ops.shape(images)[:3], -1))


def region_outputs(patches, kernels, mask):
    """Outputs for all regions, of which the mask keeps each position's.

    Args:
        patches: [batch, height, width, values].
        kernels: [batch, regions, values, filters].
        mask: [batch, height, width, regions] in the patches' dtype, or None for one region.
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
