"""Mixing groups of channels by a fixed permutation."""

import keras
import numpy as np
from keras import ops

from convzoo.layers.checks import positive
from convzoo.layers.forms import Forms
from convzoo.layers.target import get_target


@keras.saving.register_keras_serializable(package="convzoo")
class ChannelShuffle(Forms, keras.layers.Layer):
    """Deals the channels of `groups` contiguous groups out in turn: channel c of group g goes to c * groups + g.

    ShuffleNet (arXiv 1707.01083), section 3.1. With groups = channels / 2 it undoes what groups = 2 does, which puts
    the even channels before the odd ones.

    Call arguments:
        inputs: [batch, ..., channels].

    Returns:
        [batch, ..., channels].

    Args:
        groups: number of groups, a divisor of the channels.
        form: how it is computed; for finite inputs all forms agree.
            "transpose": the channels as a table, transposed.
            "product": a product with a matrix of zeros and ones. Exact where the device multiplies in the inputs'
                precision, which a TPU does in bfloat16 only; what is not finite spreads over all channels.
            "auto": by the inputs' dtype and `convzoo.layers.set_target`.

    Raises:
        ValueError: groups below 1, or channels that do not divide by them; an unknown form.
    """

    FORMS = ("transpose", "product")

    def __init__(self, groups, form="auto", **kwargs):
        super().__init__(form=form, **kwargs)
        self.groups = positive(groups, "groups")

    def choose_form(self, dtype):
        """The form that "auto" stands for, for inputs of this dtype."""
        if self.form != "auto":
            return self.form
        # A TPU keeps channels in the lanes of its vectors. With the product, blocks of Seesaw-Net and ShuffleNetV2 take
        # 0.7 to 1.0 of what they take with the transposition by cost, 0.6 to 0.7 by schedule (scripts/tpu_forms.py,
        # v5e).
        is_exact = get_target() == "tpu" and keras.backend.standardize_dtype(dtype) == "bfloat16"
        return "product" if is_exact else "transpose"

    def call(self, inputs):
        channels, between = inputs.shape[-1], ops.shape(inputs)[:-1]
        if self.choose_form(inputs.dtype) == "product":
            comes_from = np.arange(channels).reshape(self.groups, -1).T.reshape(-1)
            return ops.matmul(inputs, ops.one_hot(comes_from, channels, axis=0, dtype=inputs.dtype))
        x = ops.reshape(inputs, (*between, self.groups, channels // self.groups))
        return ops.reshape(ops.swapaxes(x, -1, -2), (*between, channels))

    def build(self, inputs_shape):
        if inputs_shape[-1] is None:
            raise ValueError(f"inputs of {self.name} have shape {tuple(inputs_shape)}: their channels must be known")
        if inputs_shape[-1] % self.groups:
            raise ValueError(f"{inputs_shape[-1]} channels of {self.name} do not divide by groups {self.groups}")

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        return {**super().get_config(), "groups": self.groups}
