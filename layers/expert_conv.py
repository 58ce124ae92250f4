"""What the conditionally parameterised convolutions share: the arguments of a window, the layout of the channels."""

import keras
from keras import ops

from convzoo.layers import window
from convzoo.layers.expert_layer import ExpertLayer


class ExpertConv(ExpertLayer):
    """An `ExpertLayer` over images [batch, height, width, channels], or [batch, channels, height, width]."""

    def __init__(self, kernel_size, strides, padding, data_format, dilation_rate, **kwargs):
        super().__init__(**kwargs)
        self.kernel_size = window.pair(kernel_size, "kernel_size")
        self.strides = window.pair(strides, "strides")
        self.dilation_rate = window.pair(dilation_rate, "dilation_rate")
        self.padding = padding.lower() if isinstance(padding, str) else padding
        self.data_format = keras.config.image_data_format() if data_format is None else data_format
        if self.padding not in ("valid", "same"):
            raise ValueError(f"padding {padding!r} is neither 'valid' nor 'same'")
        if self.data_format not in ("channels_last", "channels_first"):
            raise ValueError(f"data_format {data_format!r} is neither 'channels_last' nor 'channels_first'")
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(f"strides {self.strides} and dilation_rate {self.dilation_rate}: one of them must be 1")
        if max(self.dilation_rate) > 1:
            # TensorFlow dilates only a known number of channels, and here it is batch * channels.
            self.refuse_form("group", f"it is for dilation_rate 1, dilation_rate is {self.dilation_rate}")

    @property
    def geometry(self):
        return self.kernel_size, self.strides, self.padding, self.dilation_rate

    def _channel_axis(self):
        return 3 if self.data_format == "channels_last" else 1

    def check_inputs(self, shape):
        channels = self.channels if self.built else None
        if len(shape) != 4 or shape[self._channel_axis()] is None:
            raise ValueError(
                f"inputs of {self.name} have shape {tuple(shape)}, expected four axes ({self.data_format}) with a "
                "known number of channels"
            )
        if channels not in (None, shape[self._channel_axis()]):
            raise ValueError(
                f"inputs of {self.name} have {shape[self._channel_axis()]} channels ({self.data_format}), "
                f"but it was built for {channels}"
            )

    def build(self, inputs_shape, routing_weights_shape=None):
        self.check_inputs(inputs_shape)
        self.check_routing(routing_weights_shape)
        self.channels = inputs_shape[self._channel_axis()]
        self.compute_output_shape(inputs_shape)
        self.build_weights(self.channels)

    def transform(self, inputs, routing_weights, training):
        # One layout inside: TensorFlow's CPU kernels know no other, and XLA chooses its own layout anyway.
        if self.data_format == "channels_first":
            inputs = ops.transpose(inputs, (0, 2, 3, 1))
        outputs = self.convolve(inputs, routing_weights, training)
        if self.use_bias:
            outputs = outputs + self.mix(routing_weights, self.bias)[:, None, None, :]
        if self.data_format == "channels_first":
            outputs = ops.transpose(outputs, (0, 3, 1, 2))
        return outputs

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

    def compute_output_sizes(self, sizes):
        """Output height and width for input height and width, None where they are unknown."""
        return tuple(
            window.output_size(size, k, s, self.padding, d)
            for size, k, s, d in zip(sizes, self.kernel_size, self.strides, self.dilation_rate, strict=True)
        )

    def compute_output_shape(self, inputs_shape, routing_weights_shape=None):
        self.check_routing(routing_weights_shape)
        axis = self._channel_axis()
        sizes = inputs_shape[1:3] if axis == 3 else inputs_shape[2:4]
        out = self.compute_output_sizes(sizes)
        if any(size is not None and size < 1 for size in out):
            raise ValueError(
                f"inputs of {self.name} are {tuple(sizes)}, too small for kernel_size {self.kernel_size} with "
                f"dilation_rate {self.dilation_rate}: enlarge them or use padding='same'"
            )
        filters = self.count_outputs(inputs_shape[axis])
        return (inputs_shape[0], *out, filters) if axis == 3 else (inputs_shape[0], filters, *out)

    def get_config(self):
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
            "dilation_rate": self.dilation_rate,
        }
