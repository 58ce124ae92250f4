"""Mixing groups of channels by a fixed permutation."""

import keras
from keras import ops

from convzoo.layers.checks import positive


@keras.saving.register_keras_serializable(package="convzoo")
class ChannelShuffle(keras.layers.Layer):
    """Deals the channels of `groups` contiguous groups out in turn: channel c of group g goes to c * groups + g.

    ShuffleNet (arXiv 1707.01083), section 3.1. With groups = channels / 2 it undoes what groups = 2 does, which puts
    the even channels before the odd ones.

    Call arguments:
        inputs: [batch, ..., channels].

    Returns:
        [batch, ..., channels].

    Args:
        groups: number of groups, a divisor of the channels.

    Raises:
        ValueError: groups below 1, or channels that do not divide by them.
    """

    def __init__(self, groups, **kwargs):
        super().__init__(**kwargs)
        self.groups = positive(groups, "groups")

    def call(self, inputs):
        channels, between = inputs.shape[-1], ops.shape(inputs)[:-1]
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
