"""Weighted sums of kernels."""

from keras import ops

from convzoo.layers.target import get_target


def mix(coefficients, weight, fused=False):
    """Returns `mixed[b] = sum_i coefficients[b, i] * weight[i]`, a tensor [rows, *kernel shape].

    Args:
        coefficients: [rows, n], for example one row of routing weights per example.
        weight: [n, *kernel shape], for example the kernels of n experts.
        fused: True if the result is an operand of a matrix product. For the TPU target the sum is then written out,
            because XLA fuses an element-wise sum into the product, so that neither the mixed kernels nor their
            gradient reach memory. Otherwise, and for other targets, one matrix product computes all sums.
    """
    n = weight.shape[0]
    if fused and get_target() == "tpu":
        shape = (-1, *[1] * (len(weight.shape) - 1))
        columns = [ops.reshape(coefficients[:, i], shape) for i in range(n)]
        return sum(a * w for a, w in zip(columns, ops.unstack(ops.convert_to_tensor(weight)), strict=True))
    if get_target() == "lite":
        # LiteRT would quantize a right-hand side to int8 with a scale per value of a kernel, four times its bytes.
        mixed = ops.matmul(ops.transpose(ops.reshape(weight, (n, -1))), ops.expand_dims(coefficients, 2))
    else:
        mixed = ops.matmul(coefficients, ops.reshape(weight, (n, -1)))
    return ops.reshape(mixed, (-1, *weight.shape[1:]))
