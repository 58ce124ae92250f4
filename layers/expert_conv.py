"""What the conditionally parameterised convolutions share."""

from convzoo.layers.expert_layer import ExpertLayer
from convzoo.layers.image_window import ImageWindow


class ExpertConv(ImageWindow, ExpertLayer):
    """An `ExpertLayer` that moves a window over images."""

    def __init__(self, kernel_size, strides, padding, data_format, dilation_rate, **kwargs):
        super().__init__(kernel_size, strides, padding, data_format, dilation_rate, **kwargs)
        if max(self.dilation_rate) > 1:
            # TensorFlow dilates only a known number of channels, and here it is batch * channels.
            self.refuse_form("group", f"it is for dilation_rate 1, dilation_rate is {self.dilation_rate}")

    def build(self, inputs_shape, routing_weights_shape=None):
        self.check_inputs(inputs_shape)
        self.check_routing(routing_weights_shape)
        self.channels = inputs_shape[self.channel_axis]
        self.compute_output_shape(inputs_shape)
        self.build_weights(self.channels)

    def transform(self, inputs, routing_weights, training):
        outputs = self.convolve(self.to_last(inputs), routing_weights, training)
        if self.use_bias:
            outputs = outputs + self.mix(routing_weights, self.bias)[:, None, None, :]
        return self.from_last(outputs)

    def build_weights(self, channels):
        raise NotImplementedError

    def is_small(self, images_shape):
        """Whether channels-last images of this shape give at most 8x8 output positions; no if the size is unknown."""
        sizes = self.compute_output_sizes(images_shape[1:3])
        return None not in sizes and sizes[0] * sizes[1] <= 64

    def convolve(self, images, routing_weights, training):
        """The convolution of channels-last images, without the bias."""
        raise NotImplementedError

    def count_outputs(self, channels):
        """The number of output channels for `channels` input channels."""
        raise NotImplementedError

    def compute_output_shape(self, inputs_shape, routing_weights_shape=None):
        self.check_routing(routing_weights_shape)
        return self.shape_of_outputs(inputs_shape, self.count_outputs(inputs_shape[self.channel_axis]))
