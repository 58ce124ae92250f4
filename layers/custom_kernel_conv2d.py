"""Base class of the 2D convolutions whose weights are not one kernel of `keras.layers.Conv2D`."""

from typing import Any

import keras
from keras import ops

from convzoo.layers import window
from convzoo.layers.checks import valid_or_same
from convzoo.layers.implementations import ImplementationChoice
from convzoo.layers.types import Geometry, Shape, Tensor


class CustomKernelConv2D(ImplementationChoice, keras.layers.Conv2D):
    """A `keras.layers.Conv2D` that creates its own weights and computes its outputs in channels-last order.

    Keras's class validates the arguments, computes output shapes and serializes the layer. A subclass creates its
    weights in `build` and computes its outputs in `call`, with the methods below.

    Raises:
        ValueError: An argument of Conv2D that the layer does not have, or one that Conv2D refuses.
    """

    FIXED_ARGUMENTS = ("groups",)  # arguments of Conv2D that the subclass's constructor does not have
    kernel = None  # a weight for the subclass to set; in Conv2D it is a read-only property

    # Conv2D saves its kernel and bias; these save all weights, in the order of their creation.
    save_own_variables = keras.layers.Layer.save_own_variables
    load_own_variables = keras.layers.Layer.load_own_variables

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        for name in ("groups", "lora_rank", "lora_alpha"):
            if name in kwargs:
                raise ValueError(f"{type(self).__name__} has no argument {name}; remove {name}={kwargs[name]!r}")
        super().__init__(*args, **kwargs)
        valid_or_same(self.padding)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    @property
    def geometry(self) -> Geometry:
        """The arguments after the images of the functions in `window`."""
        return self.kernel_size, self.strides, self.padding, self.dilation_rate

    @property
    def channel_axis(self) -> int:
        return 1 if self.data_format == "channels_first" else 3

    def set_channels(self, inputs_shape: Shape) -> None:
        """Sets `channels`, for `build`. Raises ValueError if they are unknown or the images too small."""
        self.compute_output_shape(inputs_shape)
        self.channels = inputs_shape[self.channel_axis]
        if self.channels is None:
            raise ValueError(f"inputs of {self.name} have shape {tuple(inputs_shape)}; their channels must be known")
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={self.channel_axis: self.channels})

    def add_bias(self, **kwargs: Any) -> None:
        """Creates `bias` [filters], or sets it to None, for `build`."""
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.filters,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
                **kwargs,
            )

    def check_dense_kernel(self, kernel: Tensor) -> None:
        """Raises ValueError unless the layer is built and `kernel` is [kh, kw, channels, filters]."""
        if not self.built:
            raise ValueError(f"{self.name} is not built; call it or build it first")
        shape = (*self.kernel_size, self.channels, self.filters)
        if tuple(kernel.shape) != shape:
            raise ValueError(f"dense kernel for {self.name} has shape {tuple(kernel.shape)}, expected {shape}")

    def convolve(self, images: Tensor, kernel: Tensor) -> Tensor:
        """Convolves channels-last `images` with `kernel` [kh, kw, channels / groups, filters]."""
        return ops.conv(
            images, kernel, self.strides, self.padding, data_format="channels_last", dilation_rate=self.dilation_rate
        )

    def add_bias_and_activate(self, images: Tensor) -> Tensor:
        """Adds the bias to channels-last `images`, restores the data format and applies the activation."""
        if self.use_bias:
            images = images + ops.cast(self.bias, self.compute_dtype)
        outputs = window.from_channels_last(images, self.data_format)
        return outputs if self.activation is None else self.activation(outputs)

    def get_config(self) -> dict[str, Any]:
        return {name: value for name, value in super().get_config().items() if name not in self.FIXED_ARGUMENTS}
