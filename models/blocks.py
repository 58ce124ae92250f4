"""Building blocks of the networks, and the arguments that their builders share.

Every builder takes keyword arguments only, raises ModelError for an unknown value, and returns a `keras.Model` from
float images [batch, height, width, channels] to float32 logits [batch, num_classes]. The common arguments:

- num_classes: Width of the logits.
- input_shape: Height, width and channels of one image. Height and width may be None.
- include_top: False returns the last feature map, float [batch, h, w, channels], instead of logits.
- features: True returns a dict of feature maps instead of logits: "reduction_1", "reduction_2", ..., the last feature
  map at each resolution (strides 2 to 32 with stem_strides=2), and "head", the classifier's input before pooling.
- width_coefficient: Factor on the channel counts.
- num_experts: Experts of every CondConv layer (n in arXiv 1904.04971).
- first_conditional_block: Blocks from this index on are CondConv blocks. The index counts from 0 over the whole
  network, as in the layer names. -1 includes the stem where the builder allows it, None means no block.
- conditional_classifier: Whether the classifier is a `CondDense`.
- routing, expert_dropout: See `convzoo.models.routing.RoutingBuilder`.
- regions, bank_size, generator: DRConv settings of the point-wise convolutions of the blocks, see
  `convzoo.models.region_masks.RegionMaskBuilder`. regions=None builds static convolutions.
- dropout_rate: Dropout rate before the classifier.
- stem_strides: Strides of the stem: 2 as published for ImageNet, 1 for 32x32 images.
- padding, bn_momentum, bn_epsilon: See `ConvBlockBuilder`.
- name: Name of the model.
"""

import keras
from keras import layers

from convzoo.errors import ModelError
from convzoo.layers import CondConv2D, CondDense, DepthwiseCondConv2D, UnevenPointwiseConv2D
from convzoo.models.lean import Stencil
from convzoo.models.region_masks import RegionMask
from convzoo.models.routing import RoutingBuilder
from convzoo.models.weights import CLASSIFIER


def _conv_initializer():
    """Untruncated normal with standard deviation sqrt(2 / fan_out), as published for EfficientNet.

    The fan_out of a depthwise kernel is its area.
    """
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


class ConvBlockBuilder:
    """Creates the named layers of one network from shared settings, and the model that consists of them.

    Args:
        activation: Activation after normalization, for example "silu", "relu" or "relu6".
        padding: "same" pads as TensorFlow does, with the odd row of zeros after an image of even size; "symmetric" pads
            as PyTorch does, equally on both sides. They differ for strides of 2 and even sizes.
        bn_momentum, bn_epsilon: Settings of every batch normalization.
        num_experts: Experts of every CondConv layer.

    Raises:
        ModelError: The padding is unknown.

    Example:
        >>> block = ConvBlockBuilder("relu6", "symmetric", bn_momentum=0.9, bn_epsilon=1e-5)
        >>> images = keras.Input((32, 32, 3))
        >>> block.norm(block.conv(images, "stem_conv", filters=8, kernel_size=3, strides=2), "stem").shape
        (None, 16, 16, 8)
    """

    def __init__(self, activation: str, padding: str, bn_momentum: float, bn_epsilon: float, num_experts: int = 1):
        if padding not in ("same", "symmetric"):
            raise ModelError(f"padding {padding!r} is unknown; choose same or symmetric")
        self.activation, self.padding = activation, padding
        self.bn_momentum, self.bn_epsilon, self.num_experts = bn_momentum, bn_epsilon, num_experts
        self._feature_maps = {}

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
        mask: RegionMask | None = None,
        stencil: Stencil | None = None,
    ):
        """Applies a convolution.

        It is a CondConv with `routing` [batch, num_experts], a DRConv with `mask`, and a lean convolution with
        `stencil`.

        Raises:
            ModelError: More than one of them is set.
        """
        if routing is not None and mask is not None:
            raise ModelError(
                f"{name} cannot be conditional and region-aware; remove regions, or make no block conditional"
            )
        if routing is not None and stencil is not None:
            raise ModelError(f"{name} cannot be conditional and lean; remove stencil, or make no block conditional")
        x, padding = self._pad(x, name, kernel_size, strides)
        arguments = {"filters": filters, "kernel_size": kernel_size, "strides": strides, "padding": padding}
        arguments |= {"data_format": "channels_last", "use_bias": use_bias, "name": name}
        if mask is not None:
            return mask.conv(x, **arguments)
        arguments["kernel_initializer"] = _conv_initializer()
        if stencil is not None:
            return stencil.conv(**arguments)(x)
        if routing is None:
            return layers.Conv2D(**arguments)(x)
        return CondConv2D(num_experts=self.num_experts, **arguments)(x, routing)

    def adjoint_pair(self, x, name, stencil: Stencil):
        """Returns K^T act(norm(K x)) for a lean 3x3 convolution K that keeps the number of channels."""
        arguments = {"data_format": "channels_last", "use_bias": False, "name": f"{name}_conv"}
        layer = stencil.conv(
            filters=x.shape[-1],
            kernel_size=3,
            padding="same",
            kernel_initializer=_conv_initializer(),
            **arguments,
        )
        return layer(self.norm(layer(x), name), transposed=True)

    def uneven_pointwise(self, x, name, filters, ratio, order="given"):
        """Applies a point-wise convolution in uneven groups, see `convzoo.layers.UnevenPointwiseConv2D`."""
        return UnevenPointwiseConv2D(
            filters,
            ratio,
            order,
            data_format="channels_last",
            use_bias=False,
            kernel_initializer=_conv_initializer(),
            name=name,
        )(x)

    def depthwise(self, x, name, kernel_size, strides=1, *, dilation_rate=1, routing=None):
        """Applies a depthwise convolution: a CondConv with `routing` [batch, num_experts]."""
        x, padding = self._pad(x, name, kernel_size, strides)
        arguments = {"kernel_size": kernel_size, "strides": strides, "padding": padding, "dilation_rate": dilation_rate}
        arguments |= {"data_format": "channels_last", "use_bias": False, "name": name}
        arguments["depthwise_initializer"] = _conv_initializer()
        if routing is None:
            return layers.DepthwiseConv2D(**arguments)(x)
        return DepthwiseCondConv2D(num_experts=self.num_experts, **arguments)(x, routing)

    def _pad(self, x, name, kernel_size, strides):
        # Both paddings are equal for a stride of 1.
        if self.padding == "same" or kernel_size == 1 or strides in (1, (1, 1)):
            return x, "same"
        return layers.ZeroPadding2D(kernel_size // 2, data_format="channels_last", name=f"{name}_pad")(x), "valid"

    def norm(self, x, name, activation=True):
        """Applies batch normalization, then the activation unless `activation` is False."""
        x = layers.BatchNormalization(momentum=self.bn_momentum, epsilon=self.bn_epsilon, name=f"{name}_bn")(x)
        return self.activate(x, name) if activation else x

    def activate(self, x, name):
        """Applies the network's activation."""
        return layers.Activation(self.activation, name=f"{name}_activation")(x)

    def max_pool(self, x, name):
        """Applies 3x3 max-pooling with stride 2 to values of at least 0, so that zero padding is neutral."""
        x, padding = self._pad(x, name, 3, 2)
        return layers.MaxPooling2D(3, 2, padding, data_format="channels_last", name=name)(x)

    def squeeze_excite(self, x, name, filters):
        """Applies squeeze-and-excitation (arXiv 1709.01507) with `filters` hidden channels."""
        scale = layers.GlobalAveragePooling2D("channels_last", keepdims=True, name=f"{name}_se_squeeze")(x)
        scale = self.conv(scale, f"{name}_se_reduce", filters, use_bias=True)
        scale = self.activate(scale, f"{name}_se")
        scale = self.conv(scale, f"{name}_se_expand", x.shape[-1], use_bias=True)
        scale = layers.Activation("sigmoid", name=f"{name}_se_sigmoid")(scale)
        return layers.Multiply(name=f"{name}_se_excite")([x, scale])

    def _classifier(self, x, num_classes, dropout_rate, routing_builder: RoutingBuilder | None):
        """Returns float32 logits of a feature map; of a `CondDense` on the pooled features with `routing_builder`."""
        x = layers.GlobalAveragePooling2D("channels_last", name="head_pool")(x)
        routing = None if routing_builder is None else routing_builder(x, CLASSIFIER)
        if dropout_rate:
            x = layers.Dropout(dropout_rate, name="head_dropout")(x)
        arguments = {
            "units": num_classes,
            # Uniform within 1 / sqrt(units).
            "kernel_initializer": keras.initializers.VarianceScaling(1.0 / 3.0, "fan_out", "uniform"),
            "dtype": "float32",  # float32 logits under mixed_bfloat16 keep the loss exact
            "name": CLASSIFIER,
        }
        if routing is None:
            return layers.Dense(**arguments)(x)
        return CondDense(num_experts=self.num_experts, **arguments)(x, routing)

    def add_reduction(self, x):
        """Adds `x`, the last feature map before a stride, to the feature maps as the next "reduction_N"."""
        self._feature_maps[f"reduction_{len(self._feature_maps) + 1}"] = x

    def model(self, images, x, name, num_classes, include_top, features, dropout_rate, routing_builder=None):
        """Returns the model from `images` to the logits of the head's feature map `x`.

        Without `include_top` the model ends at `x`. With `features` it returns all feature maps.
        """
        if features:
            return keras.Model(images, {**self._feature_maps, "head": x}, name=name)
        if include_top:
            x = self._classifier(x, num_classes, dropout_rate, routing_builder)
        return keras.Model(images, x, name=name)
