"""Initialisers, regularisers and constraints of a kernel, applied to each expert's kernel by itself.

A weight of experts has the shape [num_experts, *kernel shape]. Handed to Keras as it is, an initialiser would take the
experts for part of the kernel: Glorot's fans would be wrong, and a norm would run over the wrong axes.
"""

import numpy as np
from keras import ops, random


def initializer(base):
    """An initialiser of shape [num_experts, *kernel shape] that draws each expert from `base` by itself.

    Experts are independent draws. For an integer seed they are the same on every call, as in Keras itself.
    """

    def initialize(shape, dtype=None, **kwargs):
        return ops.stack([nth(base, e)(shape[1:], dtype=dtype) for e in range(shape[0])])

    return initialize


def regularizer(base):
    """A regulariser that sums `base` over the experts' kernels, or None."""
    if base is None:
        return None
    # Unstacked, not sliced: the gradient of a slice is a kernel-sized array of zeros for each expert.
    return lambda kernels: sum(base(kernel) for kernel in ops.unstack(ops.convert_to_tensor(kernels)))


def constraint(base):
    """A constraint that applies `base` to each expert's kernel, or None."""
    if base is None:
        return None
    return lambda kernels: ops.stack([base(kernel) for kernel in ops.unstack(ops.convert_to_tensor(kernels))])


def nth(base, number):
    """The initialiser of one of several kernels: `base` with a seed of its own.

    A Keras initialiser draws the same values on every call, and so would make all kernels alike.
    """
    config = base.get_config() if hasattr(base, "get_config") else {}
    if "seed" not in config or isinstance(getattr(base, "seed", None), random.SeedGenerator):
        return base
    if config["seed"] is not None:
        entropy = [config["seed"] % 2**32, number]
        config["seed"] = int(np.random.SeedSequence(entropy).generate_state(1)[0] % 2**31)
    return base.from_config(config)
