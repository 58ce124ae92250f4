"""Weights mixed from several sets of weights."""

from keras import ops

from convzoo.layers.target import get_target


def mix(coefficients, weight, fused=False):
    """Sums of sets of weights, [rows, *weight shape], each with its own coefficients.

    Args:
        coefficients: [rows, sets].
        weight: [sets, *weight shape].
        fused: True where the mixture is an operand of a matrix product. By the estimates of the TPU compiler an
            explicit sum over the sets is then fused into the product, and neither the mixture nor its gradient reaches
            memory; everywhere else one matrix product mixes at once.
    """
    sets = weight.shape[0]
    if fused and get_target() == "tpu":
        shape = (-1, *[1] * (len(weight.shape) - 1))
        columns = [ops.reshape(coefficients[:, i], shape) for i in range(sets)]
        return sum(a * w for a, w in zip(columns, ops.unstack(ops.convert_to_tensor(weight)), strict=True))
    mixed = ops.matmul(coefficients, ops.reshape(weight, (sets, -1)))
    return ops.reshape(mixed, (-1, *weight.shape[1:]))
