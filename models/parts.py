"""What the networks are put together from: convolutions, static or conditional, normalisation, head."""

import keras
from keras import layers

from convzoo.layers import CondConv2D, CondDense, DepthwiseCondConv2D, UnevenPointwiseConv2D
from convzoo.models.errors import ModelError
from convzoo.models.lean import Stencil
from convzoo.models.regions import Guide

# Untruncated normal with standard deviation sqrt(2 / fan_out), as published for EfficientNet. A depthwise kernel's
# fan_out is its area.
_CONV_INIT = {"scale": 2.0, "mode": "fan_out", "distribution": "untruncated_normal"}
# Uniform within 1 / sqrt(units).
_DENSE_INIT = {"scale": 1.0 / 3.0, "mode": "fan_out", "distribution": "uniform"}


class Parts:
    """Makes the named layers of one network, with what all of them share.

    Args:
        activation: After normalisations, as "silu", "relu" or "relu6".
        padding: "same" for TensorFlow's, which puts the odd row of zeros after a picture of even size; "symmetric" for
            torch's, which puts as many before. They differ where a kernel moves by 2 over an even size.
        bn_momentum, bn_epsilon: Of every batch normalisation.
        num_experts: Of every conditional layer.

    Raises:
        ModelError: An unknown padding.
    """

    def __init__(self, activation: str, padding: str, bn_momentum: float, bn_epsilon: float, num_experts: int = 1):
        if padding not in ("same", "symmetric"):
            raise ModelError(f"padding {padding!r} is not known; choose same or symmetric")
        self.activation, self.padding = activation, padding
        self.bn_momentum, self.bn_epsilon, self.num_experts = bn_momentum, bn_epsilon, num_experts

    def conv(
        self,
        x,
        name,
        filters,
        kernel_size=1,
        strides=1,
        *,
        use_bias=False,
        routing=None,
        guide: Guide | None = None,
        stencil: Stencil | None = None,
    ):
        """A convolution; with `routing` [batch, num_experts] a conditional one, with `guide` a region-aware one, with
        `stencil` a lean one.

        Raises:
            ModelError: It would be several of them.
        """
        if routing is not None and guide is not None:
            raise ModelError(
                f"{name} would be conditional and region-aware; leave out regions, or make no block conditional"
            )
        if routing is not None and stencil is not None:
            raise ModelError(f"{name} would be conditional and lean; leave out stencil, or make no block conditional")
        x, padding = self._pad(x, name, kernel_size, strides)
        arguments = {
            "filters": filters,
            "kernel_size": kernel_size,
            "strides": strides,
            "padding": padding,
            "data_format": "channels_last",
            "use_bias": use_bias,
            "name": name,
        }
        if guide is not None:
            return guide.conv(x, **arguments)
        arguments["kernel_initializer"] = keras.initializers.VarianceScaling(**_CONV_INIT)
        if stencil is not None:
            return stencil.conv(**arguments)(x)
        if routing is None:
            return layers.Conv2D(**arguments)(x)
        return CondConv2D(num_experts=self.num_experts, **arguments)(x, routing)

    def adjoint_pair(self, x, name, stencil: Stencil):
        """K^T act(norm(K x)): a lean convolution K to as many channels, and its adjoint."""
        layer = stencil.conv(
            filters=x.shape[-1],
            kernel_size=3,
            padding="same",
            data_format="channels_last",
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(**_CONV_INIT),
            name=f"{name}_conv",
        )
        return layer(self.norm(layer(x), name), transposed=True)

    def pointwise_groups(self, x, name, filters, ratio, order="given"):
        """A point-wise convolution in groups of unequal size, see `convzoo.layers.UnevenPointwiseConv2D`."""
        return UnevenPointwiseConv2D(
            filters,
            ratio,
            order,
            data_format="channels_last",
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(**_CONV_INIT),
            name=name,
        )(x)

    def depthwise(self, x, name, kernel_size, strides=1, *, dilation_rate=1, routing=None):
        """A depthwise convolution; with `routing` [batch, num_experts] a conditional one."""
        x, padding = self._pad(x, name, kernel_size, strides)
        arguments = {
            "kernel_size": kernel_size,
            "strides": strides,
            "padding": padding,
            "data_format": "channels_last",
            "dilation_rate": dilation_rate,
            "use_bias": False,
            "depthwise_initializer": keras.initializers.VarianceScaling(**_CONV_INIT),
            "name": name,
        }
        if routing is None:
            return layers.DepthwiseConv2D(**arguments)(x)
        return DepthwiseCondConv2D(num_experts=self.num_experts, **arguments)(x, routing)

    def _pad(self, x, name, kernel_size, strides):
        # With a stride of 1 both paddings are one.
        if self.padding == "same" or kernel_size == 1 or strides in (1, (1, 1)):
            return x, "same"
        return layers.ZeroPadding2D(kernel_size // 2, data_format="channels_last", name=f"{name}_pad")(x), "valid"

    def norm(self, x, name, activation=True):
        """Batch normalisation, and the activation unless it is left out."""
        x = layers.BatchNormalization(momentum=self.bn_momentum, epsilon=self.bn_epsilon, name=f"{name}_bn")(x)
        return self.activate(x, name) if activation else x

    def activate(self, x, name):
        """The network's activation."""
        return layers.Activation(self.activation, name=f"{name}_activation")(x)

    def max_pool(self, x, name):
        """The largest of 3x3 values, moving by 2, of values that are at least 0."""
        if self.padding == "symmetric":
            x = layers.ZeroPadding2D(1, data_format="channels_last", name=f"{name}_pad")(x)
        padding = "valid" if self.padding == "symmetric" else "same"
        return layers.MaxPooling2D(3, 2, padding, data_format="channels_last", name=name)(x)

    def squeeze_excite(self, x, name, filters):
        """Channels scaled by what their averages say (arXiv 1709.01507), through `filters` channels."""
        scale = layers.GlobalAveragePooling2D("channels_last", keepdims=True, name=f"{name}_se_squeeze")(x)
        scale = self.conv(scale, f"{name}_se_reduce", filters, use_bias=True)
        scale = self.activate(scale, f"{name}_se")
        scale = self.conv(scale, f"{name}_se_expand", x.shape[-1], use_bias=True)
        scale = layers.Activation("sigmoid", name=f"{name}_se_sigmoid")(scale)
        return layers.Multiply(name=f"{name}_se_excite")([x, scale])

    def classifier(self, x, num_classes, dropout_rate=0.0, router=None):
        """Logits [batch, num_classes] in float32 from the last feature map; with a `Router` a conditional classifier,
        routed by the features that it classifies."""
        x = layers.GlobalAveragePooling2D("channels_last", name="head_pool")(x)
        routing = None if router is None else router(x, "head_dense")
        if dropout_rate:
            x = layers.Dropout(dropout_rate, name="head_dropout")(x)
        arguments = {
            "units": num_classes,
            "kernel_initializer": keras.initializers.VarianceScaling(**_DENSE_INIT),
            "dtype": "float32",  # logits and what follows them stay exact under mixed_bfloat16
            "name": "head_dense",
        }
        if routing is None:
            return layers.Dense(**arguments)(x)
        return CondDense(num_experts=self.num_experts, **arguments)(x, routing)


class Endpoints:
    """The feature maps of a network: the last one at each resolution, and the head's."""

    def __init__(self):
        self._maps = {}

    def before_downsampling(self, x):
        """Notes `x`, whose resolution ends here, as the next reduction."""
        self._maps[f"reduction_{len(self._maps) + 1}"] = x

    def model(self, images, x, name, include_top, features, classifier):
        """The network that ends where it was asked to end.

        Args:
            images: The network's input.
            x: The head's feature map.
            name: Of the model.
            include_top: Whether to end in `classifier(x)`; otherwise at `x`.
            features: Whether to return all feature maps instead, by name.
            classifier: A function from the feature map to logits.
        """
        if features:
            return keras.Model(images, {**self._maps, "head": x}, name=name)
        return keras.Model(images, classifier(x) if include_top else x, name=name)
