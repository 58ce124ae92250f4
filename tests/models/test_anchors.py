"""Anchors: shapes and positions of the published SSD300, and wrong arguments."""

import math

import numpy as np
import pytest

from convzoo.errors import ModelError
from convzoo.models.anchors import grid_anchors, ssd_shapes

SSD300_SIZES = [(19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]


def test_shapes_of_ssd300():
    shapes = ssd_shapes(6)
    assert [len(of_map) for of_map in shapes] == [3, 6, 6, 6, 6, 6]
    root2, root3 = math.sqrt(2), math.sqrt(3)
    np.testing.assert_allclose(shapes[0], [(0.1, 0.1), (0.2 / root2, 0.2 * root2), (0.2 * root2, 0.2 / root2)])
    scale, square = 0.35, math.sqrt(0.35 * 0.5)  # the scales are 0.2, 0.35, 0.5, 0.65, 0.8, 0.95
    np.testing.assert_allclose(
        shapes[1],
        [
            (scale, scale),
            (scale / root2, scale * root2),
            (scale * root2, scale / root2),
            (scale / root3, scale * root3),
            (scale * root3, scale / root3),
            (square, square),
        ],
    )
    np.testing.assert_allclose(shapes[5][-1], [math.sqrt(0.95)] * 2)


def test_all_shapes_of_the_finest_map():
    shapes = ssd_shapes(6, reduce_lowest=False)
    assert [len(of_map) for of_map in shapes] == [6] * 6
    np.testing.assert_allclose(shapes[0][-1], [math.sqrt(0.2 * 0.35)] * 2)


def test_positions_of_ssd300():
    shapes = ssd_shapes(6)
    boxes = grid_anchors(SSD300_SIZES, shapes)
    assert boxes.shape == (1917, 4)
    assert boxes.dtype == np.float32
    heights, widths = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    row, column, shape = 4, 7, 2
    index = (row * 19 + column) * 3 + shape
    np.testing.assert_allclose((heights[index], widths[index]), shapes[0][shape], rtol=1e-5)
    center = (boxes[index, :2] + boxes[index, 2:]) / 2
    np.testing.assert_allclose(center, [(row + 0.5) / 19, (column + 0.5) / 19], rtol=1e-5)
    first_of_second_map = boxes[19 * 19 * 3]
    np.testing.assert_allclose(first_of_second_map, [0.05 - 0.175, 0.05 - 0.175, 0.05 + 0.175, 0.05 + 0.175], atol=1e-6)
    np.testing.assert_allclose(boxes[-6:, :2] + boxes[-6:, 2:], 1.0, atol=1e-6)  # centered on the image


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_maps": 1},
        {"num_maps": 6, "min_scale": 0},
        {"num_maps": 6, "max_scale": 2},
        {"num_maps": 6, "aspect_ratios": (-1,)},
    ],
)
def test_invalid_scales(arguments):
    with pytest.raises(ModelError):
        ssd_shapes(**arguments)
