"""Feature pyramids and their shared predictors (arXiv 1612.03144; RetinaNet, arXiv 1708.02002, section 4)."""

from collections.abc import Sequence

import keras
from keras import layers


class FeaturePyramid:
    """Creates the layers of a feature pyramid and of the predictors that its levels share.

    Args:
        prefix: Prefix of the names of all layers.
        filters: Channels of all levels.
        bn_momentum, bn_epsilon: Settings of every batch normalization.
        separable: Whether 3x3 convolutions are depthwise and 1x1 ones.

    Example:
        >>> images = keras.Input((64, 64, 3))
        >>> maps = [layers.AveragePooling2D(stride)(images) for stride in (8, 16, 32)]
        >>> pyramid = FeaturePyramid("neck_", 16, bn_momentum=0.97, bn_epsilon=1e-3)
        >>> [level.shape[1] for level in pyramid.levels((8, 16, 32, 64, 128), maps)]
        [8, 4, 2, 1, 1]
    """

    def __init__(self, prefix: str, filters: int, bn_momentum: float, bn_epsilon: float, separable: bool = False):
        self._prefix, self._filters, self._separable = prefix, filters, separable
        self._norm_settings = {"momentum": bn_momentum, "epsilon": bn_epsilon}

    def levels(self, strides: Sequence[int], maps: Sequence) -> list:
        """Returns the maps of all levels.

        Args:
            strides: Strides of the levels, each twice the one before.
            maps: The backbone's maps at the first of these strides, [batch, height, width, channels]. The other levels
                are computed from them.
        """
        all_strides, strides = strides, strides[: len(maps)]
        merged = [self._conv(x, f"level{stride}_lateral", 1) for stride, x in zip(strides, maps, strict=True)]
        for index in range(len(merged) - 2, -1, -1):
            coarse = _upsample_like(merged[index + 1], merged[index], f"{self._prefix}level{strides[index]}_upsample")
            merged[index] = layers.Add(name=f"{self._prefix}level{strides[index]}_add")([merged[index], coarse])
        levels = [self._conv(x, f"level{stride}_conv", 3) for stride, x in zip(strides, merged, strict=True)]
        for stride in all_strides[len(maps) :]:
            x = levels[-1]
            if len(levels) > len(maps):
                x = layers.ReLU(name=f"{self._prefix}level{stride}_relu")(x)
            levels.append(self._conv(x, f"level{stride}_conv", 3, strides=2))
        return [self._norm(x, f"level{stride}") for stride, x in zip(all_strides, levels, strict=True)]

    def predictions(self, maps: Sequence, output: str, filters: int, num_convs: int, bias: float) -> list:
        """Returns `filters` predictions at each position of each map, from layers that the maps share.

        Args:
            maps: `levels`.
            output: Name of the predictions, part of the layers' names.
            filters: Predictions per position.
            num_convs: Number of 3x3 convolutions before the predictor.
            bias: Initial value of the predictor's bias.
        """
        maps = list(maps)
        for index in range(num_convs):
            convs = self._make_conv(f"{output}_head{index}_conv", self._filters, 3, {"use_bias": False})
            for level, x in enumerate(maps):
                for conv in convs:
                    x = conv(x)
                x = self._norm(x, f"{output}_head{index}_level{level}")
                maps[level] = layers.ReLU(6.0, name=f"{self._prefix}{output}_head{index}_level{level}_activation")(x)
        settings = {
            "kernel_initializer": keras.initializers.RandomNormal(stddev=0.01),
            "bias_initializer": keras.initializers.Constant(bias),
            "dtype": "float32",  # float32 logits under mixed_bfloat16 keep the loss exact
        }
        convs = self._make_conv(f"{output}_head_conv", filters, 3, settings)
        predictions = []
        for x in maps:
            for conv in convs:
                x = conv(x)
            predictions.append(x)
        return predictions

    def _conv(self, x, name, kernel_size, strides=1):
        for conv in self._make_conv(name, self._filters, kernel_size, {}, strides):
            x = conv(x)
        return x

    def _make_conv(self, name, filters, kernel_size, settings, strides=1):
        """Returns the layers of a convolution, one or two."""
        convs, size = [], {"kernel_size": kernel_size, "strides": strides}
        if self._separable and kernel_size > 1:
            dtype = {"dtype": settings["dtype"]} if "dtype" in settings else {}
            convs.append(
                layers.DepthwiseConv2D(
                    **size,
                    padding="same",
                    use_bias=False,
                    data_format="channels_last",
                    name=f"{self._prefix}{name}_depthwise",
                    **dtype,
                )
            )
            size = {"kernel_size": 1}
        conv = layers.Conv2D(
            filters, **size, padding="same", data_format="channels_last", name=f"{self._prefix}{name}", **settings
        )
        return [*convs, conv]

    def _norm(self, x, name):
        return layers.BatchNormalization(**self._norm_settings, name=f"{self._prefix}{name}_bn")(x)


def _upsample_like(x, reference, name):
    """Doubles the resolution of `x` by repetition, and removes the last row or column where `reference` is smaller."""
    x = layers.UpSampling2D(2, data_format="channels_last", name=name)(x)
    excess = [x.shape[axis] - reference.shape[axis] for axis in (1, 2)]
    if not any(excess):
        return x
    return layers.Cropping2D(((0, excess[0]), (0, excess[1])), data_format="channels_last", name=f"{name}_crop")(x)
