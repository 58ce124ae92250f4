"""Every operation that moves pixels equals that of PIL, exactly."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from convzoo.data import geometry

FILL = 128
LEVELS = [-1.5, -0.9, -0.3, -0.12, -1e-4, 0.0, 0.01, 0.1, 0.21, 0.5, 1.0, 2.7]
PIXELS = [-400, -37, -10.5, -2.5, -0.5, -0.4, 0.0, 0.3, 0.5, 0.7, 1.0, 12.0, 12.5, 36.0, 51.0, 250]
DEGREES = [-400, -180, -90, -30, -7.5, -0.01, 0.0, 0.3, 3, 27, 45, 60, 89.9, 90, 133, 180, 270, 359.5, 360]


def _transformed(*coefficients):
    return lambda image: image.transform(image.size, Image.AFFINE, coefficients, fillcolor=(FILL,) * 3)


# Each operation, its strengths, and what PIL is asked for.
OPERATIONS = {
    geometry.shear_x: (LEVELS, lambda level: _transformed(1, level, 0, 0, 1, 0)),
    geometry.shear_y: (LEVELS, lambda level: _transformed(1, 0, 0, level, 1, 0)),
    geometry.translate_x: (PIXELS, lambda pixels: _transformed(1, 0, pixels, 0, 1, 0)),
    geometry.translate_y: (PIXELS, lambda pixels: _transformed(1, 0, 0, 0, 1, pixels)),
    geometry.rotate: (DEGREES, lambda degrees: lambda image: image.rotate(degrees, fillcolor=(FILL,) * 3)),
}
every_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)


def _images():
    draw = np.random.default_rng(6)
    sizes = [(37, 51), (51, 37), (40, 40), (224, 224), (1, 1), (1, 9), (9, 1), (2, 2)]
    images = {f"noise {h}x{w}": draw.integers(0, 256, (h, w, 3), np.uint8) for h, w in sizes}
    smooth = np.add.outer(np.arange(64), np.arange(96))[..., None] * np.array([0.8, 1.2, 0.3]) + [9, 30, 2]
    return images | {
        "smooth": smooth.astype(np.uint8),
        "constant": np.full((30, 20, 3), (200, 17, 96), np.uint8),
        "two levels": np.where(draw.random((40, 41, 3)) < 0.3, 0, 255).astype(np.uint8),
    }


IMAGES = _images()
every_image = pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES.keys())


@functools.cache
def _traced(operation, size=(None, None)):
    """The operation in a graph, with a strength that is known only when it runs."""
    kinds = [tf.TensorSpec([*size, 3], tf.uint8), tf.TensorSpec([], tf.float32)]
    graph = tf.function(lambda image, strength: operation(image, strength, FILL), input_signature=kinds)
    assert graph.get_concrete_function().structured_outputs.shape.as_list() == [*size, 3]
    return graph


@every_image
@every_operation
def test_equals_pil(operation, image):
    """Where the size is known (outside a graph it is) and where it is not."""
    strengths, expected = OPERATIONS[operation]
    for strength in strengths:
        strength = np.float32(strength)
        wanted = np.asarray(expected(float(strength))(Image.fromarray(image)))
        np.testing.assert_array_equal(operation(image, strength, FILL), wanted, err_msg=f"known size, {strength}")
        found = _traced(operation)(image, strength)
        np.testing.assert_array_equal(found, wanted, err_msg=f"unknown size, {strength}")


@every_operation
def test_many_strengths(operation):
    image = IMAGES["noise 37x51"]
    graph = _traced(operation, image.shape[:2])
    expected = OPERATIONS[operation][1]
    reach = max(OPERATIONS[operation][0])
    for strength in np.random.default_rng(7).uniform(-reach, reach, 200).astype(np.float32):
        wanted = np.asarray(expected(float(strength))(Image.fromarray(image)))
        np.testing.assert_array_equal(graph(image, strength), wanted, err_msg=f"strength {strength}")


@every_image
@every_operation
def test_no_strength_changes_nothing(operation, image):
    np.testing.assert_array_equal(operation(image, 0.0, FILL), image)


@every_operation
def test_strengths_in_python_and_other_fills(operation):
    image = np.full((20, 30, 3), 50, np.uint8)
    found = np.asarray(operation(image, 0.9 if "shear" in operation.__name__ else 10, 7))
    assert set(np.unique(found)) == {7, 50}


@every_operation
def test_within_a_pipeline(operation):
    images = np.stack([IMAGES["noise 37x51"], IMAGES["noise 37x51"][::-1]])
    strengths = np.array([0.4, -3.0], np.float32)
    found = tf.data.Dataset.from_tensor_slices((images, strengths)).map(lambda x, s: operation(x, s, FILL))
    for one, image, strength in zip(found, images, strengths, strict=True):
        np.testing.assert_array_equal(one, operation(image, strength, FILL))
