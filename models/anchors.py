"""Anchors of detectors: boxes of fixed position, size and shape, whose class and offset a network predicts.

Boxes are float32 [..., 4] of (top, left, bottom, right), in units of the image's height and width.
"""

import itertools
import math
import numbers
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from convzoo.errors import ModelError

# Of the published SSD300 networks on MobileNetV1.
MIN_SCALE, MAX_SCALE = 0.2, 0.95
ASPECT_RATIOS = (1.0, 2.0, 1 / 2, 3.0, 1 / 3)
_LOWEST_SCALE = 0.1  # of the small square of the finest map
# Of RetinaNet.
PYRAMID_SCALE, PYRAMID_OCTAVES, PYRAMID_RATIOS = 4.0, 3, (1.0, 2.0, 1 / 2)


def ssd_shapes(
    num_maps: int,
    min_scale: float = MIN_SCALE,
    max_scale: float = MAX_SCALE,
    aspect_ratios: Sequence[float] = ASPECT_RATIOS,
    reduce_lowest: bool = True,
) -> list[list[tuple[float, float]]]:
    """Returns the anchors of each position of SSD's feature maps (arXiv 1512.02325, section 2.2).

    The scales of the maps are evenly spaced. Each map has one anchor for each aspect ratio at its scale, and a square
    at the geometric mean of its scale and the next one, which is 1 after the last.

    Args:
        num_maps: Number of feature maps, at least 2, finest first.
        min_scale, max_scale: Scale of the first and of the last map, in units of the image's side.
        aspect_ratios: Width divided by height, in units of the image's sides: on an image that is not square, an anchor
            with a ratio of 1 has the image's proportions.
        reduce_lowest: Whether the finest map has only three anchors per position: a square of scale 0.1, and
            `min_scale` with ratios 2 and 1/2, as in the code of the MobileNet detectors.

    Returns:
        For each map a list of (height, width), in units of the image's side.

    Raises:
        ModelError: There are fewer than two maps, the scales are not 0 < min_scale < max_scale <= 1, or a ratio is not
            positive.

    Example:
        >>> [len(shapes) for shapes in ssd_shapes(6)]
        [3, 6, 6, 6, 6, 6]
    """
    if num_maps < 2:
        raise ModelError(f"SSD needs at least 2 feature maps, not {num_maps}")
    if not 0 < min_scale < max_scale <= 1:
        raise ModelError(f"min_scale={min_scale} and max_scale={max_scale} must satisfy 0 < min_scale < max_scale <= 1")
    _check_positive("aspect_ratios", aspect_ratios)
    scales = [*np.linspace(min_scale, max_scale, num_maps), 1.0]
    shapes = []
    for scale, next_scale in itertools.pairwise(scales):
        of_map = [(scale, ratio) for ratio in aspect_ratios] + [(math.sqrt(scale * next_scale), 1.0)]
        shapes.append([_height_and_width(*shape) for shape in of_map])
    if reduce_lowest:
        lowest = [(_LOWEST_SCALE, 1.0), (min_scale, 2.0), (min_scale, 1 / 2)]
        shapes[0] = [_height_and_width(*shape) for shape in lowest]
    return shapes


def pyramid_shapes(
    strides: Sequence[int],
    image_size: tuple[int, int],
    scale: float = PYRAMID_SCALE,
    octaves: int = PYRAMID_OCTAVES,
    aspect_ratios: Sequence[float] = PYRAMID_RATIOS,
) -> list[list[tuple[float, float]]]:
    """Returns the anchors of each position of a feature pyramid, as in RetinaNet (arXiv 1708.02002, section 4).

    Args:
        strides: Stride of each feature map in pixels.
        image_size: Height and width of the image in pixels.
        scale: Side of the smallest square in units of the stride.
        octaves: Number of sizes between a map and the next one, evenly spaced on a logarithmic scale.
        aspect_ratios: Width divided by height, in pixels.

    Returns:
        For each map a list of (height, width), in units of the image's height and width.

    Raises:
        ModelError: A number is not positive.

    Example:
        >>> pyramid_shapes([8], (64, 64), octaves=2, aspect_ratios=(1.0,))
        [[(0.5, 0.5), (0.7071067811865476, 0.7071067811865476)]]
    """
    for name, values in (
        ("strides", strides),
        ("image_size", image_size),
        ("scale", (scale,)),
        ("octaves", (octaves,)),
        ("aspect_ratios", aspect_ratios),
    ):
        _check_positive(name, values)
    height, width = image_size
    shapes = []
    for stride in strides:
        sides = [scale * stride * 2 ** (octave / octaves) for octave in range(octaves)]
        in_pixels = [_height_and_width(side, ratio) for side in sides for ratio in aspect_ratios]
        shapes.append([(shape[0] / height, shape[1] / width) for shape in in_pixels])
    return shapes


def _check_positive(name, values):
    for value in values:
        if not isinstance(value, numbers.Real) or not 0 < float(value) < math.inf:
            raise ModelError(f"{name} must be positive numbers, not {value!r}")


def _height_and_width(scale, ratio):
    return float(scale / math.sqrt(ratio)), float(scale * math.sqrt(ratio))


def grid_anchors(
    feature_sizes: Sequence[tuple[int, int]], shapes: Sequence[Sequence[tuple[float, float]]]
) -> np.ndarray:
    """Returns the anchors of all positions of all feature maps.

    Args:
        feature_sizes: Height and width of each feature map.
        shapes: Height and width of the anchors of each map, in units of the image's side.

    Returns:
        Boxes float32 [anchors, 4]: maps one after the other, in each map the positions by row, at each position its
        shapes. They are centered on the positions and reach beyond the image near its border.

    Example:
        >>> grid_anchors([(1, 2)], [[(1.0, 0.5)]]).tolist()
        [[0.0, 0.0, 1.0, 0.5], [0.0, 0.5, 1.0, 1.0]]
    """
    boxes = []
    for (height, width), of_map in zip(feature_sizes, shapes, strict=True):
        y, x = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
        centers = np.stack([y, x], -1).reshape(-1, 1, 2)
        halves = np.array(of_map, np.float64) / 2
        boxes.append(np.concatenate([centers - halves, centers + halves], -1).reshape(-1, 4))
    return np.concatenate(boxes).astype(np.float32)


@keras.saving.register_keras_serializable(package="convzoo")
class Anchors(keras.layers.Layer):
    """Returns the anchors of a detector for each image of a batch, so that its outputs are complete.

    Call arguments:
        inputs: [batch, ...]; only the size of the batch is used.

    Returns:
        float32 [batch, anchors, 4].

    Args:
        feature_sizes, shapes: As for `grid_anchors`.

    Example:
        >>> Anchors([(1, 2)], [[(1.0, 0.5)]])(keras.ops.zeros((3, 8))).shape
        TensorShape([3, 2, 4])
    """

    def __init__(self, feature_sizes, shapes, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.feature_sizes, self.shapes = feature_sizes, shapes
        self.anchors = grid_anchors(feature_sizes, shapes)

    def call(self, inputs):
        # Both choices are the same. TensorFlow would store a broadcast as one large constant in a step for TPUs.
        is_positive = ops.reshape(inputs, (ops.shape(inputs)[0], -1, 1))[:, :1] > 0
        return ops.where(is_positive, self.anchors, self.anchors)

    def compute_output_shape(self, inputs_shape):
        return (inputs_shape[0], *self.anchors.shape)

    def get_config(self):
        return {**super().get_config(), "feature_sizes": self.feature_sizes, "shapes": self.shapes}
