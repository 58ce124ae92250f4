"""Initializers, regularizers and constraints that act on each expert's kernel separately.

A weight of experts is [num_experts, *kernel shape]. A Keras initializer would count the experts as part of the kernel,
so that Glorot's fans would be wrong, and a norm would run over the wrong axes.
"""

import numpy as np
from keras import ops, random


def initializer(base):
    """Returns an initializer of [num_experts, *kernel shape] that draws each expert's kernel from `base`.

    Experts are independent draws. As in Keras, an integer seed gives the same values in every call.
    """

    def initialize(shape, dtype=None, **kwargs):
        return ops.stack([nth(base, e)(shape[1:], dtype=dtype) for e in range(shape[0])])

    return initialize


def regularizer(base):
    """Returns a regularizer that sums `base` over the experts' kernels; None for None."""
    if base is None:
        return None
    # ops.unstack, because the gradient of indexing is a zero tensor of the whole weight for each expert.
    return lambda kernels: sum(base(kernel) for kernel in ops.unstack(ops.convert_to_tensor(kernels)))


def constraint(base):
    """Returns a constraint that applies `base` to each expert's kernel; None for None."""
    if base is None:
        return None
    return lambda kernels: ops.stack([base(kernel) for kernel in ops.unstack(ops.convert_to_tensor(kernels))])


def nth(base, number):
    """Returns the initializer of kernel `number`: `base` with a seed derived from its own seed and `number`.

    A Keras initializer draws the same values in every call, so that without this all kernels would be equal. An
    initializer without an argument `seed`, or with a `SeedGenerator`, is returned unchanged.
    """
    config = base.get_config() if hasattr(base, "get_config") else {}
    if "seed" not in config or isinstance(getattr(base, "seed", None), random.SeedGenerator):
        return base
    if config["seed"] is not None:
        entropy = [config["seed"] % 2**32, number]
        config["seed"] = int(np.random.SeedSequence(entropy).generate_state(1)[0] % 2**31)
    return base.from_config(config)
