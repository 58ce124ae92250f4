"""Every operation on colours equals that of PIL, on every kind of picture, exactly."""

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


def _traced(operation, known_size):
    """The operation in a graph, with a strength that is known only when it runs."""

    def run(image, *strengths):
        size = image.shape if known_size else [None, None, 3]
        kinds = [tf.TensorSpec([], s.dtype) for s in strengths]
        graph = tf.function(operation).get_concrete_function(tf.TensorSpec(size, tf.uint8), *kinds)
        assert graph.structured_outputs.shape.as_list() == list(size)
        return graph(image, *strengths)

    return run


def _point(picture, function):
    """PIL's Image.point with a function of a value 0..255."""
    return Image.fromarray(picture).point([function(value) for value in range(256)] * 3)


@every_picture
@pytest.mark.parametrize("operation", ENHANCERS, ids=lambda operation: operation.__name__)
def test_blends_equal_pil(operation, picture):
    graph = _traced(operation, known_size=True)
    enhancer = ENHANCERS[operation](Image.fromarray(picture))
    for factor in FACTORS:
        factor = np.float32(factor)
        np.testing.assert_array_equal(graph(tf.constant(picture), tf.constant(factor)), enhancer.enhance(float(factor)))


@every_picture
@pytest.mark.parametrize("operation", WITHOUT_STRENGTH, ids=lambda operation: operation.__name__)
def test_those_without_strength_equal_pil(operation, picture):
    expected = WITHOUT_STRENGTH[operation](Image.fromarray(picture))
    np.testing.assert_array_equal(_traced(operation, known_size=True)(tf.constant(picture)), expected)


@pytest.mark.parametrize("highest", range(1, 256, 7))
def test_auto_contrast_of_all_ranges(highest):
    """Whole quotients are truncated as PIL does, whose float64 may lie below them."""
    for lowest in range(0, highest, 11):
        row = np.arange(lowest, highest + 1)
        picture = np.stack([row, row[::-1], np.full_like(row, highest)], -1)[None].astype(np.uint8)
        np.testing.assert_array_equal(colour.auto_contrast(picture), ImageOps.autocontrast(Image.fromarray(picture)))


@every_picture
def test_posterize_equals_pil(picture):
    graph = _traced(colour.posterize, known_size=True)
    for bits in range(1, 9):
        expected = ImageOps.posterize(Image.fromarray(picture), bits)
        np.testing.assert_array_equal(graph(tf.constant(picture), tf.constant(bits)), expected)
        np.testing.assert_array_equal(colour.posterize(picture, bits), expected)


def test_posterize_to_no_bits_is_black():
    assert not np.any(colour.posterize(PICTURES["noise"], 0))


@every_picture
def test_solarize_equals_pil(picture):
    graph = _traced(colour.solarize, known_size=True)
    for threshold in THRESHOLDS:
        expected = ImageOps.solarize(Image.fromarray(picture), threshold)
        np.testing.assert_array_equal(graph(tf.constant(picture), tf.constant(threshold)), expected)


@every_picture
@pytest.mark.parametrize("threshold", [128, 0, 77, 256])
def test_solarize_add(picture, threshold):
    graph = _traced(colour.solarize_add, known_size=True)
    for addition in (-300, -20, 0, 33, 110, 330):

        def added(value, addition=addition):
            return min(max(value + addition, 0), 255) if value < threshold else value

        found = graph(tf.constant(picture), tf.constant(addition), tf.constant(threshold))
        np.testing.assert_array_equal(found, _point(picture, added))


def test_solarize_add_stops_at_the_middle():
    found = colour.solarize_add(np.array([[[127, 128, 129]]], np.uint8), 5)
    np.testing.assert_array_equal(found, [[[132, 128, 129]]])


OPERATIONS = [
    *((operation, (1.3,)) for operation in ENHANCERS),
    *((operation, ()) for operation in WITHOUT_STRENGTH),
    (colour.posterize, (3,)),
    (colour.solarize, (90,)),
    (colour.solarize_add, (40,)),
]
every_operation = pytest.mark.parametrize(
    ("operation", "strength"), OPERATIONS, ids=[operation.__name__ for operation, _ in OPERATIONS]
)


@every_picture
@every_operation
def test_unknown_sizes_give_the_same(operation, strength, picture):
    found = _traced(operation, known_size=False)(tf.constant(picture), *map(tf.constant, strength))
    np.testing.assert_array_equal(found, operation(picture, *strength))


@every_operation
def test_within_a_pipeline(operation, strength):
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


def test_a_mean_past_the_whole_numbers_of_float32():
    """The values of this picture add up to more than 2 ** 24, by an odd number."""
    picture = np.full((601, 603, 3), 254, np.uint8)
    picture[: 601 // 2] = 253
    picture[0, 0] = 0
    expected = ImageEnhance.Contrast(Image.fromarray(picture)).enhance(0.5)
    np.testing.assert_array_equal(colour.contrast(picture, 0.5), expected)
