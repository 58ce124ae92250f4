"""Implementations of region-aware convolution, see `DRConv2D`.

Notation: x is the image (1x1) or the patch under the kernel at one position, m[r] the mask of that position (1 for its
region, 0 for the others) and W[r] the kernel of region r. The output of the position is

    y = sum_r m[r] * (W[r] * x).

- "region_outputs" computes this sum as written: it generates the kernels W of every image, computes W[r] * x for all
  regions and sums them with the mask.
- "region_inputs" moves the mask to the inputs: y = sum_r W[r] * (m[r] * x), one matrix product over (region, value).

With generator "shared_bank", W[r] = sum_i a[r, i] * B[i] over the base kernels B. Exchanging the sums gives

    y = sum_i c[i] * (B[i] * x)    with the coefficients of the position    c[i] = sum_r m[r] * a[r, i],

so that no kernel of an image or region has to be generated:

- "bank_outputs" computes B[i] * x for all i in one matrix product, then the sum.
- "bank_loop" computes B[i] * x for one i after the other and accumulates.
- "bank_inputs" computes y = sum_i B[i] * (c[i] * x), one matrix product over (base kernel, channel).

Images are channels-last in the compute dtype. Coefficients are in the variable dtype, as are the sums over them.
"""

from keras import ops

from convzoo.layers.barrier import barrier
from convzoo.layers.custom_gradient import custom_gradient


def bank_pointwise(implementation, images, kernel, coefficients):
    """Computes a 1x1 convolution from a bank of base kernels.

    Automatic differentiation would keep bank_size times the outputs or inputs for the backward pass. This gradient
    keeps only the arguments and recomputes the rest. With g the gradient of the outputs and V[i] = B[i]^T g:

        d images = sum_i c[i] * V[i],    d c[i] = <x, V[i]>,    d B[i] = sum over positions of (c[i] * x) g^T

    Args:
        implementation: "bank_outputs", "bank_inputs" or "bank_loop". The backward pass computes V for all base kernels
            at once in the first two, and d B for all at once in the second, else for one after the other.
        images: [batch, height, width, channels].
        kernel: [bank_size, channels, filters].
        coefficients: [batch, height, width, bank_size].

    Returns:
        [batch, height, width, filters].
    """
    bank_size, channels, filters = kernel.shape

    def scale(images, coefficients):
        """Returns c[i] * x for all i: [batch, height, width, bank_size * channels]."""
        x = ops.expand_dims(ops.cast(images, coefficients.dtype), 3) * ops.expand_dims(coefficients, 4)
        return ops.reshape(ops.cast(x, images.dtype), (*ops.shape(images)[:3], bank_size * channels))

    def forward(images, kernel, coefficients):
        if implementation == "bank_loop":
            return bank_loop(ops.matmul, images, kernel, coefficients)
        if implementation == "bank_inputs":
            bank = ops.reshape(kernel, (bank_size * channels, filters))
            return ops.matmul(scale(images, coefficients), bank)
        z = ops.matmul(images, ops.reshape(ops.transpose(kernel, (1, 0, 2)), (channels, bank_size * filters)))
        return _weighted_sum(coefficients, ops.split(barrier(z), bank_size, axis=3), images.dtype)

    @custom_gradient
    def compute(images, kernel, coefficients):
        def gradient(g):
            if implementation == "bank_loop":
                v = (ops.matmul(g, ops.transpose(base)) for base in ops.unstack(kernel))
            else:
                bank = ops.reshape(kernel, (bank_size * channels, filters))
                v = ops.split(barrier(ops.matmul(g, ops.transpose(bank))), bank_size, axis=3)
            c = ops.split(coefficients, bank_size, axis=3)
            x, d_images, d_coefficients = ops.cast(images, coefficients.dtype), 0.0, []
            for c_i, v_i in zip(c, v, strict=True):
                v_i = ops.cast(v_i, c_i.dtype)
                d_images = d_images + c_i * v_i
                d_coefficients.append(ops.sum(x * v_i, axis=3, keepdims=True))
            if implementation == "bank_inputs":
                d_kernel = outer(scale(images, coefficients), bank_size * channels, g)
            else:
                d_kernel = ops.stack([outer(ops.cast(c_i * x, images.dtype), channels, g) for c_i in c])
            d_kernel = ops.reshape(d_kernel, (bank_size, channels, filters))
            return ops.cast(d_images, images.dtype), d_kernel, ops.concatenate(d_coefficients, axis=3)

        def outer(x, width, g):
            """Returns the sum over positions of x g^T, [width, filters], for x of `width` channels."""
            return ops.matmul(ops.transpose(ops.reshape(x, (-1, width))), ops.reshape(g, (-1, filters)))

        return forward(images, kernel, coefficients), gradient

    return compute(images, kernel, coefficients)


def bank_loop(convolve, images, kernel, coefficients):
    """Computes a convolution from a bank of base kernels, one base kernel after the other.

    Args:
        convolve: Function (images, one base kernel) -> outputs.
        images: [batch, height, width, channels].
        kernel: [bank_size, *shape of a base kernel].
        coefficients: [batch, output height, output width, bank_size].

    Returns:
        [batch, output height, output width, filters].
    """
    return _weighted_sum(coefficients, (convolve(images, base) for base in ops.unstack(kernel)), images.dtype)


def _weighted_sum(coefficients, outputs, dtype):
    """Returns the sum of the base kernels' `outputs`, weighted by the coefficients of each position, as `dtype`.

    The sum is a Python loop: the TPU compiler copies a stacked tensor before it reduces an axis of base kernels.
    """
    y = 0.0
    for c, z in zip(ops.split(coefficients, coefficients.shape[3], axis=3), outputs, strict=True):
        y = y + c * ops.cast(z, c.dtype)
    return ops.cast(y, dtype)


def region_outputs(patches, kernels, mask):
    """Computes the outputs for all regions and sums them with the mask.

    Args:
        patches: [batch, height, width, values], the kh * kw * channels values under the kernel at each position.
        kernels: [batch, regions, values, filters].
        mask: [batch, height, width, regions] in the dtype of the patches, or None for one region.

    Returns:
        [batch, height, width, filters].
    """
    batch, height, width, values = ops.shape(patches)
    x = ops.reshape(patches, (batch, height * width, values))
    regions, filters = kernels.shape[1], kernels.shape[3]
    z = ops.matmul(x, ops.reshape(ops.transpose(kernels, (0, 2, 1, 3)), (batch, values, regions * filters)))
    z = ops.reshape(z, (batch, height, width, regions, filters))
    return ops.squeeze(z, 3) if mask is None else ops.sum(z * ops.expand_dims(mask, 4), axis=3)


def region_inputs(patches, kernels, mask):
    """Multiplies the patches by each region's mask and sums over regions in one product; see `region_outputs`."""
    batch, height, width, values = ops.shape(patches)
    regions, filters = kernels.shape[1], kernels.shape[3]
    x = patches if mask is None else ops.expand_dims(patches, 3) * ops.expand_dims(mask, 4)
    x = ops.reshape(x, (batch, height * width, regions * values))
    y = ops.matmul(x, ops.reshape(kernels, (batch, regions * values, filters)))
    return ops.reshape(y, (batch, height, width, filters))
