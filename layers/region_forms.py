"""The ways to compute a region-aware convolution.

With a bank of base kernels B_i and a position's coefficients c_i, its output is (sum_i c_i B_i) * x around it, which is
sum_i c_i (B_i * x) and, for 1 x 1 kernels, sum_i B_i * (c_i x): no kernel of an image or region need exist. Without a
bank the kernels of an image are made, one a region.

Images are channels-last and in the compute dtype; coefficients are in the weights' dtype, and so are sums over them.
"""

from keras import ops

from convzoo.layers.barrier import barrier
from convzoo.layers.own_gradient import own_gradient


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
    return _weighted_sum(coefficients, _of_each(barrier(z), bank_size), images.dtype)


def bank_inputs(images, kernel, coefficients):
    """1 x 1 base kernels in one product with inputs that are scaled for each; arguments as in `bank_outputs`."""
    bank_size, _, _, channels, filters = kernel.shape
    return ops.matmul(_scaled(images, coefficients), ops.reshape(kernel, (bank_size * channels, filters)))


def bank_loop(convolve, images, kernel, coefficients):
    """One base kernel after the other; arguments as in `bank_outputs`."""
    return _weighted_sum(coefficients, (convolve(images, base) for base in ops.unstack(kernel)), images.dtype)


def with_own_gradient(form, images, kernel, coefficients, v_at_once=False, x_at_once=False):
    """`form(images, kernel, coefficients)` of 1 x 1 base kernels, with a gradient that keeps nothing of bank_size times
    the outputs or inputs from the forward pass to the backward.

    With g the gradient of the outputs and V_i = B_i^T g, the gradients are sum_i c_i V_i of the images, <x, V_i> of
    c_i, and the sum over positions of c_i x g^T of B_i.

    Args:
        form: One of the above, with its other arguments bound.
        images, kernel, coefficients: As in `bank_outputs`; coefficients of every position.
        v_at_once, x_at_once: Whether to compute V, and the gradient of the kernels from the scaled inputs c_i x, for
            all base kernels at once, or for one after the other.
    """
    bank_size, _, _, channels, filters = kernel.shape

    @own_gradient
    def compute(images, kernel, coefficients):
        def gradient(g):
            columns, of_each = ops.reshape(g, (-1, filters)), _of_each(coefficients, bank_size)
            if v_at_once:
                bank = ops.reshape(kernel, (bank_size * channels, filters))
                v_of_each = _of_each(barrier(ops.matmul(g, ops.transpose(bank))), bank_size)
            else:
                v_of_each = (ops.matmul(g, ops.transpose(base[0, 0])) for base in ops.unstack(kernel))
            x, d_images, d_coefficients = ops.cast(images, coefficients.dtype), 0.0, []
            for c, v in zip(of_each, v_of_each, strict=True):
                v = ops.cast(v, c.dtype)
                d_images = d_images + c * v
                d_coefficients.append(ops.sum(x * v, axis=3, keepdims=True))
            if x_at_once:
                d_kernel = product(_scaled(images, coefficients), bank_size * channels, columns)
            else:
                d_kernel = ops.stack([product(ops.cast(c * x, images.dtype), channels, columns) for c in of_each])
            d_coefficients = ops.concatenate(d_coefficients, axis=3)
            return ops.cast(d_images, images.dtype), ops.reshape(d_kernel, kernel.shape), d_coefficients

        def product(scaled, rows, columns):
            return ops.matmul(ops.transpose(ops.reshape(scaled, (-1, rows))), columns)

        return form(images, kernel, coefficients), gradient

    return compute(images, kernel, coefficients)


def _of_each(values, bank_size):
    """The part of each base kernel in [batch, height, width, bank_size * n]: a list of [batch, height, width, n]."""
    return ops.split(values, bank_size, axis=3)


def _weighted_sum(coefficients, outputs, dtype):
    """The sum of each base kernel's outputs times its coefficient.

    Written out: summed over an axis of its own, the TPU compiler's copies of it take twice the time.
    """
    y = 0.0
    for c, z in zip(_of_each(coefficients, coefficients.shape[3]), outputs, strict=True):
        y = y + c * ops.cast(z, c.dtype)
    return ops.cast(y, dtype)


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
