"""A conditionally parameterised depthwise convolution."""

import keras
from keras import constraints, initializers, regularizers

from convzoo.layers.checks import positive
from convzoo.layers.depthwise_group import depthwise_group
from convzoo.layers.depthwise_map import depthwise_map
from convzoo.layers.depthwise_taps import depthwise_taps
from convzoo.layers.expert_conv import ExpertConv
from convzoo.layers.target import get_target


@keras.saving.register_keras_serializable(package="convzoo")
class DepthwiseCondConv2D(ExpertConv):
    """A depthwise convolution of each example with a kernel mixed for it, a1 W1 + ... + an Wn, from routing weights a.

    CondConv (arXiv 1904.04971), section 3. Any batch size, known or not.

    Call arguments:
        inputs: [batch, height, width, channels], or [batch, channels, height, width] for "channels_first".
        routing_weights: [batch, num_experts], of `ExpertRouting`; layers of one block share them.

    Returns:
        [batch, output height, output width, channels * depth_multiplier], or with the channels first.

    Args:
        kernel_size, strides, dilation_rate: a positive integer or a pair of them; strides or dilation_rate must be 1.
        num_experts: number of experts, at least 1.
        padding: "valid" or "same".
        depth_multiplier: number of outputs of each channel.
        data_format: "channels_last" or "channels_first"; Keras's own setting by default. The second is transposed to
            the first inside.
        activation, use_bias: as in `keras.layers.DepthwiseConv2D`; the bias is mixed as the kernels are.
        depthwise_initializer, bias_initializer, depthwise_regularizer, bias_regularizer, depthwise_constraint,
        bias_constraint: as in `keras.layers.DepthwiseConv2D`, applied to each expert by itself: kernels
            [kh, kw, channels, depth_multiplier], biases [channels * depth_multiplier].
        activity_regularizer: of the outputs.
        form: how it is computed; all forms agree.
            "map": one example after another, each an ordinary depthwise convolution; square strides only. A sequential
                loop, which a TPU or GPU does not fill.
            "taps": a sum over the positions of the window, with a gradient of its own. Few passes where the compiler
                fuses them (XLA), kh * kw passes over the images where it does not.
            "group": the batch folded into the channels, one depthwise convolution of batch * channels channels; square
                strides and dilation_rate 1 only.
            "auto": by the strides and `convzoo.layers.set_target`.

    Raises:
        ValueError: sizes below 1, strides and dilation together, an unknown form or one that does not apply, routing
            weights of another width.
    """

    FORMS = ("map", "taps", "group")

    def __init__(
        self,
        kernel_size,
        num_experts,
        strides=(1, 1),
        padding="valid",
        depth_multiplier=1,
        data_format=None,
        dilation_rate=(1, 1),
        activation=None,
        use_bias=True,
        depthwise_initializer="glorot_uniform",
        bias_initializer="zeros",
        depthwise_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        depthwise_constraint=None,
        bias_constraint=None,
        form="auto",
        **kwargs,
    ):
        super().__init__(
            kernel_size,
            strides,
            padding,
            data_format,
            dilation_rate,
            num_experts=num_experts,
            activation=activation,
            use_bias=use_bias,
            bias_initializer=bias_initializer,
            bias_regularizer=bias_regularizer,
            bias_constraint=bias_constraint,
            form=form,
            activity_regularizer=activity_regularizer,
            **kwargs,
        )
        self.depth_multiplier = positive(depth_multiplier, "depth_multiplier")
        self.depthwise_initializer = initializers.get(depthwise_initializer)
        self.depthwise_regularizer = regularizers.get(depthwise_regularizer)
        self.depthwise_constraint = constraints.get(depthwise_constraint)
        if self.strides[0] != self.strides[1]:
            # TensorFlow's depthwise convolution has no others.
            self.refuse_form("map", f"it is for square strides, strides are {self.strides}")
            self.refuse_form("group", f"it is for square strides, strides are {self.strides}")

    def build_weights(self, channels):
        self.depthwise_kernel = self.add_expert_weight(
            "depthwise_kernel",
            (*self.kernel_size, channels, self.depth_multiplier),
            self.depthwise_initializer,
            self.depthwise_regularizer,
            self.depthwise_constraint,
        )
        self.add_bias(channels * self.depth_multiplier)

    def count_outputs(self, channels):
        return channels * self.depth_multiplier

    def choose_form(self, images_shape, training=False):
        """The form that "auto" stands for, for channels-last inputs of this shape; the same in and out of training."""
        if self.form != "auto":
            return self.form
        square = self.strides[0] == self.strides[1]
        # By scripts/benchmark_layers.py on two CPU cores (batch 32, 8 experts, oneDNN, forward and backward), "group"
        # takes 0.15 of the time of "map" for 3 x 3 windows over 4x4x128, 0.4 over 14x14x128, 0.7 over 7x7x1152: where
        # images are small, a loop costs more than its work. For 5 x 5 windows over large images it takes 1.2 to 1.5 of
        # it: too many rows of too many channels for the caches. Nothing was measured on a GPU: one convolution of many
        # channels is taken for better than kh * kw passes.
        # By the TPU compiler's estimates (scripts/tpu_forms.py, v5e, by cost) "taps" takes 1.3 to 2.2 of the plain
        # layer, "group" 2.5 to 2.9. What the loop of "map" takes no estimate tells, and the compiler fuses nothing
        # across it.
        if get_target() == "cpu" and square:
            return "group" if self._fits_caches(images_shape) else "map"
        if get_target() == "gpu" and square and max(self.dilation_rate) == 1:
            return "group"
        return "taps"

    def _fits_caches(self, images_shape):
        if max(self.dilation_rate) > 1 or None in images_shape[1:3]:
            return False
        values = images_shape[1] * images_shape[2] * images_shape[3]
        return values <= (65536 if max(self.kernel_size) <= 3 else 16384)

    def convolve(self, images, routing_weights, training):
        kernels = self.mix(routing_weights, self.depthwise_kernel)
        form = self.choose_form(images.shape, training)
        if form == "taps":
            return depthwise_taps(images, kernels, *self.geometry)
        if form == "group":
            # oneDNN's gradient of 3 x 3 kernels beats a convolution of its own; that of larger ones is far slower.
            own_gradient = get_target() == "cpu" and max(self.kernel_size) > 3
            return depthwise_group(images, kernels, self.kernel_size, self.strides, self.padding, own_gradient)
        return depthwise_map(images, kernels, *self.geometry)

    def get_config(self):
        return {
            **super().get_config(),
            "depth_multiplier": self.depth_multiplier,
            "depthwise_initializer": initializers.serialize(self.depthwise_initializer),
            "depthwise_regularizer": regularizers.serialize(self.depthwise_regularizer),
            "depthwise_constraint": constraints.serialize(self.depthwise_constraint),
        }
