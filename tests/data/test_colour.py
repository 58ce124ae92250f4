"""Every operation on colours equals that of PIL, on every kind of picture, exactly."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from convzoo.data import colour

FACTORS = [-0.5, 0.0, 0.1, 0.28, 0.6, 1.0, 1.4, 1.9, 5.5]
THRESHOLDS = [-3, 0, 1, 26, 100, 127.5, 128, 255, 256, 300]

ENHANCERS = {
    colour.brightness: ImageEnhance.Brightness,
    colour.contrast: ImageEnhance.Contrast,
    colour.saturation: ImageEnhance.Color,
    colour.sharpness: ImageEnhance.Sharpness,
}
WITHOUT_STRENGTH = {
    colour.auto_contrast: ImageOps.autocontrast,
    colour.equalize: ImageOps.equalize,
    colour.invert: ImageOps.invert,
}
BY_LEVEL = (colour.posterize, colour.solarize, colour.solarize_add)
# Every operation and strengths for it.
STRENGTHS = (
    {operation: (1.3,) for operation in ENHANCERS}
    | {operation: () for operation in WITHOUT_STRENGTH}
    | dict(zip(BY_LEVEL, [(3,), (90,), (40, 100)], strict=True))
)


def _pictures():
    draw = np.random.default_rng(5)
    smooth = np.add.outer(np.arange(64), np.arange(96))[..., None] * np.array([0.8, 1.2, 0.3]) + [9, 30, 2]
    return {
        "noise": draw.integers(0, 256, (37, 51, 3), np.uint8),
        "large noise": draw.integers(0, 256, (224, 224, 3), np.uint8),
        "smooth": smooth.astype(np.uint8),
        "smooth and noisy": np.clip(smooth + draw.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8),
        "dark": draw.integers(3, 60, (50, 70, 3), np.uint8) * np.array([1, 2, 3], np.uint8),
        "skewed": (255 * draw.beta(0.2, 3.0, (61, 40, 3))).astype(np.uint8),
        "constant": np.full((30, 20, 3), (200, 17, 96), np.uint8),
        "constant channel": np.stack(
            [draw.integers(0, 256, (33, 35)), np.full((33, 35), 77), np.full((33, 35), 0)], -1
        ).astype(np.uint8),
        "two levels": np.where(draw.random((40, 41, 3)) < 0.3, 50, 51).astype(np.uint8),
        "black and white": np.where(draw.random((40, 41, 3)) < 0.999, 255, 0).astype(np.uint8),
        "one pixel": np.array([[[3, 250, 128]]], np.uint8),
        "two pixels": np.array([[[3, 250, 128], [4, 0, 127]]], np.uint8),
        "one row": draw.integers(0, 256, (1, 9, 3), np.uint8),
        "one column": draw.integers(0, 256, (9, 1, 3), np.uint8),
        "two columns": draw.integers(0, 256, (9, 2, 3), np.uint8),
        "two rows": draw.integers(0, 256, (2, 9, 3), np.uint8),
        "three by three": draw.integers(0, 256, (3, 3, 3), np.uint8),
    }


PICTURES = _pictures()
every_picture = pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES.keys())


@functools.cache
def _traced(operation, size=(None, None), kind=tf.float32):
    """The operation as a graph: strengths of that kind and, unless a size is given, sizes are known when it runs."""
    strengths = [tf.TensorSpec([], kind) for _ in STRENGTHS[operation]]
    graph = tf.function(operation, input_signature=[tf.TensorSpec([*size, 3], tf.uint8), *strengths])
    output = graph.get_concrete_function().structured_outputs
    assert output.dtype == tf.uint8
    assert output.shape.as_list() == [*size, 3]
    return graph


def _check(operation, picture, strengths, expected):
    """Compare with what PIL gives, where the size is known (outside a graph it is) and where it is not."""
    np.testing.assert_array_equal(operation(picture, *strengths), expected, err_msg=f"known size, {strengths}")
    found = _traced(operation)(picture, *map(np.float32, strengths))
    np.testing.assert_array_equal(found, expected, err_msg=f"unknown size, {strengths}")


@every_picture
@pytest.mark.parametrize("operation", ENHANCERS, ids=lambda operation: operation.__name__)
def test_blends_equal_pil(operation, picture):
    enhancer = ENHANCERS[operation](Image.fromarray(picture))
    for factor in FACTORS:
        _check(operation, picture, [np.float32(factor)], enhancer.enhance(float(np.float32(factor))))


@every_picture
@pytest.mark.parametrize("operation", WITHOUT_STRENGTH, ids=lambda operation: operation.__name__)
def test_those_without_strength_equal_pil(operation, picture):
    _check(operation, picture, [], WITHOUT_STRENGTH[operation](Image.fromarray(picture)))


@pytest.mark.parametrize("step", [7, 12])
def test_auto_contrast_of_many_ranges(step):
    """Whole quotients are truncated as PIL does, whose float64 may lie below them."""
    for highest in range(1, 256, step):
        for lowest in range(0, highest, 23):
            row = np.arange(lowest, highest + 1)
            picture = np.stack([row, row[::-1], np.full_like(row, highest)], -1)[None].astype(np.uint8)
            expected = ImageOps.autocontrast(Image.fromarray(picture))
            np.testing.assert_array_equal(_traced(colour.auto_contrast)(picture), expected)


@every_picture
def test_posterize_equals_pil(picture):
    for bits in range(1, 9):
        _check(colour.posterize, picture, [bits], ImageOps.posterize(Image.fromarray(picture), bits))


def test_posterize_to_no_bits_is_black():
    assert not np.any(colour.posterize(PICTURES["noise"], 0))


@every_picture
def test_solarize_equals_pil(picture):
    for threshold in THRESHOLDS:
        _check(colour.solarize, picture, [threshold], ImageOps.solarize(Image.fromarray(picture), threshold))


@every_picture
@pytest.mark.parametrize("threshold", [128, 0, 77, 256])
def test_solarize_add(picture, threshold):
    for addition in (-300, -20, 0, 33, 110, 330):
        table = [min(max(v + addition, 0), 255) if v < threshold else v for v in range(256)]
        _check(colour.solarize_add, picture, [addition, threshold], Image.fromarray(picture).point(table * 3))


def test_solarize_add_stops_at_the_middle():
    found = colour.solarize_add(np.array([[[127, 128, 129]]], np.uint8), 5)
    np.testing.assert_array_equal(found, [[[132, 128, 129]]])


@pytest.mark.parametrize(
    ("operation", "kind"),
    [*((operation, tf.float32) for operation in STRENGTHS), *((operation, tf.int32) for operation in BY_LEVEL)],
)
def test_strengths_that_are_tensors(operation, kind):
    picture, strengths = PICTURES["large noise"], STRENGTHS[operation]
    graph = _traced(operation, picture.shape[:2], kind)
    found = graph(picture, *(tf.constant(value, kind) for value in strengths))
    np.testing.assert_array_equal(found, operation(picture, *strengths))


@pytest.mark.parametrize("operation", STRENGTHS, ids=lambda operation: operation.__name__)
def test_within_a_pipeline(operation):
    strength = STRENGTHS[operation]
    pictures = tf.data.Dataset.from_tensor_slices(np.stack([PICTURES["noise"], PICTURES["noise"][::-1]]))
    first, second = pictures.map(lambda image: operation(image, *strength))
    np.testing.assert_array_equal(first, operation(PICTURES["noise"], *strength))
    np.testing.assert_array_equal(second, operation(PICTURES["noise"][::-1], *strength))


@every_picture
@pytest.mark.parametrize(
    "unchanged",
    [
        lambda image: colour.brightness(image, 1.0),
        lambda image: colour.contrast(image, 1.0),
        lambda image: colour.saturation(image, 1.0),
        lambda image: colour.sharpness(image, 1.0),
        lambda image: colour.posterize(image, 8),
        lambda image: colour.solarize(image, 256),
        lambda image: colour.solarize_add(image, 0),
        lambda image: colour.invert(colour.invert(image)),
    ],
)
def test_strengths_that_change_nothing(unchanged, picture):
    np.testing.assert_array_equal(unchanged(picture), picture)


@pytest.mark.parametrize(("height", "width", "first"), [(600, 602, 252), (1000, 601, 253)])
def test_a_mean_past_the_whole_numbers_of_float32(height, width, first):
    """Whether the mean of this picture is rounded up hangs on one grey level of one pixel."""
    picture = np.full((height, width, 3), 254, np.uint8)
    picture[: height // 2] = 253
    picture[0, 0] = first
    _check(colour.contrast, picture, [0.0], ImageEnhance.Contrast(Image.fromarray(picture)).enhance(0.0))
