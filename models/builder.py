"""Building blocks of the networks, and the arguments that their builders share.

The builder of a family, such as `convzoo.models.resnet.resnet`, takes keyword arguments only and returns a
`keras.Model` from float images [batch, height, width, channels] to float32 logits [batch, num_classes]. The common
arguments:

- num_classes: Width of the logits.
- input_shape: Height, width and channels of one image. Height and width may be None.
- operator: What replaces the network's convolutions, see `convzoo.models.operators`. None: nothing.
- include_top: False returns the last feature map, float [batch, h, w, channels], instead of logits.
- features: True returns a dict of feature maps instead of logits: "reduction_1", "reduction_2", ..., the last feature
  map at each resolution (strides 2 to 32 with stem_strides=2), and "head", the classifier's input before pooling.
- dropout_rate: Dropout rate before the classifier.
- stem_strides: Strides of the stem: 2 as published for ImageNet, 1 for 32x32 images.
- padding, bn_momentum, bn_epsilon: See `NetworkBuilder`.
- name: Name of the model.

Its code is the same for every operator. It creates `net`, a `NetworkBuilder`, which creates the layers.
`net.stem(images)`, `net.block(x, "block0", filters)` and `net.head(x)`, called once per part and in network order,
return a copy of `net` whose convolutions are the operator's where it replaces that part. The convolutions of `net`
itself are ordinary ones, for shortcuts.
"""

import copy

import keras
from keras import layers

from convzoo.errors import ModelError
from convzoo.layers.types import Pair
from convzoo.models.operators import Operator, Part, PartLayers, Static
from convzoo.models.weights import CLASSIFIER

_PRELU_SLOPE = 0.25  # initial, as in PyTorch


def _conv_initializer():
    """Untruncated normal with standard deviation sqrt(2 / fan_out), as published for EfficientNet.

    The fan_out of a depthwise kernel is its area.
    """
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


class NetworkBuilder:
    """Creates the named layers of one network from shared settings, and the model that consists of them.

    Args:
        activation: Activation after normalization, for example "silu", "relu", "relu6" or "prelu".
        padding: "same" pads as TensorFlow does, with the odd row of zeros after an image of even size; "symmetric" pads
            as PyTorch does, equally on both sides. They differ for strides of 2 and even sizes.
        bn_momentum, bn_epsilon: Settings of every batch normalization.
        operator: What replaces the convolutions of the network's parts; None for nothing.

    Raises:
        ModelError: The padding is unknown.

    Example:
        >>> net = NetworkBuilder("relu6", "symmetric", bn_momentum=0.9, bn_epsilon=1e-5)
        >>> images = keras.Input((32, 32, 3))
        >>> net.norm(net.conv(images, "stem_conv", filters=8, kernel_size=3, strides=2), "stem").shape
        (None, 16, 16, 8)
    """

    def __init__(
        self, activation: str, padding: str, bn_momentum: float, bn_epsilon: float, operator: Operator | None = None
    ):
        if padding not in ("same", "symmetric"):
            raise ModelError(f"padding {padding!r} is unknown; choose same or symmetric")
        self.activation, self.padding = activation, padding
        self.bn_momentum, self.bn_epsilon = bn_momentum, bn_epsilon
        self._operator = Static() if operator is None else operator
        self._operator_layers = self._operator.start_network()
        self._layers, self._parts, self._feature_maps = PartLayers(), [], {}

    def stem(self, images) -> "NetworkBuilder":
        """Returns the builder of the stem, whose layers are named "stem_...", for its input."""
        return self._part(Part("stem", "stem", images))

    def block(self, x, name: str, filters: int) -> "NetworkBuilder":
        """Returns the builder of the next block, for its input `x`. The block returns `filters` channels."""
        return self._part(Part("block", name, x, filters))

    def head(self, x) -> "NetworkBuilder":
        """Returns the builder of the 1x1 convolution between the blocks and the pooling, for its input."""
        return self._part(Part("head", "head", x))

    def _part(self, part):
        first = self._operator.first_block
        replaced = part.kind in self._operator.parts
        if part.kind == "block":
            replaced = replaced and first is not None and self._parts.count("block") >= first
        self._parts.append(part.kind)
        return self._with(self._operator_layers(part) if replaced else PartLayers())

    def _with(self, part_layers):
        """Returns a copy with the layers of one part; parts and feature maps are shared."""
        builder = copy.copy(self)
        builder._layers = part_layers
        return builder

    def conv(self, x, name, filters, kernel_size=1, strides: Pair = 1, *, use_bias=False, dilation_rate=1):
        """Applies a convolution."""
        x, padding = self._pad(x, name, kernel_size, strides)
        return self._layers.conv(
            x,
            filters=filters,
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            data_format="channels_last",
            use_bias=use_bias,
            kernel_initializer=_conv_initializer(),
            name=name,
            **({"dilation_rate": dilation_rate} if dilation_rate != 1 else {}),
        )

    def depthwise(self, x, name, kernel_size, strides: Pair = 1, *, dilation_rate=1):
        """Applies a depthwise convolution."""
        x, padding = self._pad(x, name, kernel_size, strides)
        return self._layers.depthwise(
            x,
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            dilation_rate=dilation_rate,
            data_format="channels_last",
            use_bias=False,
            depthwise_initializer=_conv_initializer(),
            name=name,
        )

    def mix(self, x, name):
        """Mixes the channels between two point-wise convolutions, if these are grouped."""
        return self._layers.mix(x, name)

    def mix_outputs(self, x, name):
        """Mixes the channels that a block returns, if its point-wise convolutions are grouped."""
        return self._layers.mix_outputs(x, name)

    def adjoint_step(self, x, name):
        """Applies the operator's substitute for a block's two 3x3 convolutions, K^T act(norm(K x)); None without one.

        Call it only for blocks that keep resolution and width.
        """
        if not self._layers.has_adjoint_step:
            return None
        return self._layers.adjoint_step(
            x,
            lambda hidden: self.norm(hidden, name),
            filters=x.shape[-1],
            kernel_size=3,
            padding="same",
            data_format="channels_last",
            use_bias=False,
            kernel_initializer=_conv_initializer(),
            name=f"{name}_conv",
        )

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
        """Applies the network's activation; "prelu" has a slope for each channel."""
        if self.activation == "prelu":
            return layers.PReLU(
                keras.initializers.Constant(_PRELU_SLOPE), shared_axes=[1, 2], name=f"{name}_activation"
            )(x)
        return layers.Activation(self.activation, name=f"{name}_activation")(x)

    def max_pool(self, x, name):
        """Applies 3x3 max-pooling with stride 2 to values of at least 0, so that zero padding is neutral."""
        x, padding = self._pad(x, name, 3, 2)
        return layers.MaxPooling2D(3, 2, padding, data_format="channels_last", name=name)(x)

    def squeeze_excite(self, x, name, filters):
        """Applies squeeze-and-excitation (arXiv 1709.01507) with `filters` hidden channels and ordinary layers."""
        static = self._with(PartLayers())
        scale = layers.GlobalAveragePooling2D("channels_last", keepdims=True, name=f"{name}_se_squeeze")(x)
        scale = static.conv(scale, f"{name}_se_reduce", filters, use_bias=True)
        scale = self.activate(scale, f"{name}_se")
        scale = static.conv(scale, f"{name}_se_expand", x.shape[-1], use_bias=True)
        scale = layers.Activation("sigmoid", name=f"{name}_se_sigmoid")(scale)
        return layers.Multiply(name=f"{name}_se_excite")([x, scale])

    def _classifier(self, x, num_classes, dropout_rate):
        """Returns float32 logits of a feature map."""
        x = layers.GlobalAveragePooling2D("channels_last", name="head_pool")(x)
        builder = self._part(Part("classifier", CLASSIFIER, x))
        if dropout_rate:
            x = layers.Dropout(dropout_rate, name="head_dropout")(x)
        return builder._layers.dense(
            x,
            units=num_classes,
            # Uniform within 1 / sqrt(units).
            kernel_initializer=keras.initializers.VarianceScaling(1.0 / 3.0, "fan_out", "uniform"),
            dtype="float32",  # float32 logits under mixed_bfloat16 keep the loss exact
            name=CLASSIFIER,
        )

    def add_reduction(self, x):
        """Adds `x` to the feature maps as the next "reduction_N". Call it before every stride and after the blocks."""
        self._feature_maps[f"reduction_{len(self._feature_maps) + 1}"] = x

    def model(self, images, x, name, num_classes, include_top, features, dropout_rate):
        """Returns the model from `images` to the logits of the head's feature map `x`.

        Without `include_top` the model ends at `x`. With `features` it returns all feature maps.

        Raises:
            ModelError: The operator, or a setting of it, had no effect.
        """
        if features:
            outputs = {**self._feature_maps, "head": x}
        else:
            outputs = self._classifier(x, num_classes, dropout_rate) if include_top else x
        model = keras.Model(images, outputs, name=name)
        self._check_effect(model, has_classifier=include_top and not features)
        return model

    def _check_effect(self, model, has_classifier):
        operator, num_blocks = self._operator, self._parts.count("block")
        kind = type(operator).__name__
        if operator.first_block is not None and operator.first_block >= num_blocks:
            raise ModelError(
                f"first_block={operator.first_block} of {kind} is not a block of {model.name}; use 0 to "
                f"{num_blocks - 1}, or None for no block"
            )
        expected = [part for part in operator.parts if has_classifier or part != "classifier"]
        if missing := [part for part in expected if part not in self._parts]:
            raise ModelError(f"{kind} cannot replace the {missing[0]} of {model.name}, which has none")
        if expected and (reason := operator.why_no_effect(model)):
            raise ModelError(f"{kind} {reason}")
