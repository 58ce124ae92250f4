"""What layers that move a window over images share: the window's arguments, the layout of the channels, the sizes."""

import keras
from keras import ops

from convzoo.layers import window


class ImageWindow:
    """Goes before a `keras.layers.Layer` among the bases of a layer over images [batch, height, width, channels], or
    [batch, channels, height, width]."""

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

    @property
    def geometry(self):
        return self.kernel_size, self.strides, self.padding, self.dilation_rate

    @property
    def channel_axis(self):
        return 3 if self.data_format == "channels_last" else 1

    def to_last(self, inputs):
        """`inputs` with their channels last. TensorFlow's CPU kernels know no other layout, and XLA chooses its own."""
        return ops.transpose(inputs, (0, 2, 3, 1)) if self.data_format == "channels_first" else inputs

    def from_last(self, images):
        """The way back from `to_last`."""
        return ops.transpose(images, (0, 3, 1, 2)) if self.data_format == "channels_first" else images

    def check_inputs(self, shape):
        """Raises if the layer cannot take inputs of `shape`; `channels` is what it was built for."""
        channels = self.channels if self.built else None
        if len(shape) != 4 or shape[self.channel_axis] is None:
            raise ValueError(
                f"inputs of {self.name} have shape {tuple(shape)}, expected four axes ({self.data_format}) with a "
                "known number of channels"
            )
        if channels not in (None, shape[self.channel_axis]):
            raise ValueError(
                f"inputs of {self.name} have {shape[self.channel_axis]} channels ({self.data_format}), "
                f"but it was built for {channels}"
            )

    def compute_output_sizes(self, sizes):
        """Output height and width for input height and width, None where they are unknown."""
        return tuple(
            window.output_size(size, k, s, self.padding, d)
            for size, k, s, d in zip(sizes, self.kernel_size, self.strides, self.dilation_rate, strict=True)
        )

    def shape_of_outputs(self, inputs_shape, filters):
        """The shape of `filters` outputs for inputs of `inputs_shape`. Raises where no window fits."""
        axis = self.channel_axis
        sizes = inputs_shape[1:3] if axis == 3 else inputs_shape[2:4]
        out = self.compute_output_sizes(sizes)
        if any(size is not None and size < 1 for size in out):
            raise ValueError(
                f"inputs of {self.name} are {tuple(sizes)}, too small for kernel_size {self.kernel_size} with "
                f"dilation_rate {self.dilation_rate}: enlarge them or use padding='same'"
            )
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
