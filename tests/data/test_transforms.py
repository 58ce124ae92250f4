"""What is done to one image."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from convzoo import data
from convzoo.data import transforms

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def _bilinear(image, height, width):
    """Resize by hand: pixel centers at half steps, edges repeated. image: [h, w, c]"""
    image = image.astype(np.float64)
    for axis, size in ((0, height), (1, width)):
        length = image.shape[axis]
        at = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, length - 1)
        weight = (at - low).reshape([-1 if i == axis else 1 for i in range(3)])
        image = np.take(image, low, axis) * (1 - weight) + np.take(image, high, axis) * weight
    return image


@pytest.fixture
def noise():
    return np.random.default_rng(3).integers(0, 256, (41, 30, 3), np.uint8)


@pytest.mark.parametrize("fraction", [1.0, 0.875, 0.5])
@pytest.mark.parametrize("size", [(16, 16), (50, 40)])
def test_eval_transform_by_hand(noise, fraction, size):
    side = int(30 * fraction)
    top, left = (41 - side + 1) // 2, (30 - side + 1) // 2
    mean, std = np.array([120.0, 110.0, 100.0]), np.array([60.0, 50.0, 40.0])
    expected = (_bilinear(noise[top : top + side, left : left + side], *size) - mean) / std
    found = data.eval_transform(
        noise, image_size=size, mean=tuple(mean), std=tuple(std), crop_fraction=fraction, interpolation="bilinear"
    )
    assert found.dtype == tf.float32
    assert found.shape == (*size, 3)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_bicubic_of_the_same_size_changes_nothing(noise):
    square = noise[:30]
    found = data.eval_transform(square, image_size=(30, 30), crop_fraction=1.0, interpolation="bicubic", **PLAIN)
    np.testing.assert_array_equal(found, square)


def test_bicubic_is_not_bilinear(noise):
    options = {"image_size": (12, 12), "crop_fraction": 0.9, **PLAIN}
    cubic, linear = (data.eval_transform(noise, interpolation=kind, **options) for kind in ("bicubic", "bilinear"))
    assert np.abs(cubic - linear).max() > 1


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_one_image_and_a_batch_agree(noise, interpolation):
    options = {"image_size": (9, 11), "crop_fraction": 0.8, "interpolation": interpolation, **PLAIN}
    batch = np.stack([noise, noise[::-1], noise[:, ::-1]])
    together = data.eval_transform(batch, **options)
    for one, image in zip(together, batch, strict=True):
        np.testing.assert_array_equal(one, data.eval_transform(image, **options))


@pytest.mark.parametrize("shape", [[None, None, 3], [None, None, None], [41, 30, 3]])
def test_unknown_sizes_give_the_same(noise, shape):
    options = {"image_size": (9, 11), "crop_fraction": 0.8, "interpolation": "bicubic", **PLAIN}
    for image, spec in ((noise, shape), (noise[None], [None, *shape])):
        traced = tf.function(
            lambda x: data.eval_transform(x, **options), input_signature=[tf.TensorSpec(spec, tf.uint8)]
        )
        np.testing.assert_allclose(traced(image), data.eval_transform(image, **options), atol=1e-3)


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_channels_become_three(channels, static):
    image = np.random.default_rng(0).integers(0, 256, (8, 8, channels), np.uint8)
    traced = tf.function(
        lambda x: data.eval_transform(x, image_size=(8, 8), crop_fraction=1.0, interpolation="bilinear", **PLAIN),
        input_signature=[tf.TensorSpec([None, None, channels if static else None], tf.uint8)],
    )
    expected = image[..., :3] if channels >= 3 else np.repeat(image[..., :1], 3, -1)
    np.testing.assert_array_equal(traced(image), expected)


def test_float_images(noise):
    options = {"image_size": (9, 11), "crop_fraction": 0.8, "interpolation": "bicubic", **PLAIN}
    np.testing.assert_array_equal(
        data.eval_transform(noise.astype(np.float32), **options), data.eval_transform(noise, **options)
    )


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 3), (1, 9, 3), (9, 1, 3), (2, 2, 3)])
@pytest.mark.parametrize("fraction", [1e-6, 0.3, 1.0])
def test_tiny_images_and_fractions(shape, fraction):
    image = np.full(shape, 7, np.uint8)
    found = data.eval_transform(image, image_size=(4, 4), crop_fraction=fraction, interpolation="bicubic", **PLAIN)
    np.testing.assert_allclose(found, np.full((4, 4, 3), 7.0), atol=1e-4)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP"])
def test_decode_image(kind):
    pixels = np.full((5, 7, 3), (200, 30, 90), np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind, **({"quality": 100, "subsampling": 0} if kind == "JPEG" else {}))
    found = data.decode_image(content.getvalue())
    assert found.dtype == tf.uint8
    np.testing.assert_allclose(np.asarray(found, int), pixels.astype(int), atol=3)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1"])
def test_decode_image_of_other_modes(mode):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)).convert(mode)
    content = io.BytesIO()
    image.save(content, "PNG")
    np.testing.assert_array_equal(data.decode_image(content.getvalue()), np.asarray(image.convert("RGB")))


def _boxes(shape, area, aspect, count=400):
    seeds = tf.stack([tf.fill([count], tf.constant(5, tf.int64)), tf.range(count, dtype=tf.int64)], 1)
    return tf.map_fn(
        lambda seed: transforms.sample_box(tf.constant(shape), seed, area, aspect), seeds, fn_output_signature=tf.int32
    ).numpy()


def test_crops_keep_to_area_and_aspect():
    area, aspect = (0.2, 0.6), (3 / 4, 4 / 3)
    top, left, height, width = _boxes([300, 400, 3], area, aspect).T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 300).all()
    assert (left + width <= 400).all()
    part = height * width / (300 * 400)
    assert area[0] - 0.01 < part.min() < 0.25
    assert 0.5 < part.max() < area[1] + 0.01
    ratio = width / height
    assert aspect[0] - 0.02 < ratio.min() < 0.85
    assert 1.2 < ratio.max() < aspect[1] + 0.02
    assert len(np.unique(top)) > 50
    assert len(np.unique(left)) > 50


def test_small_areas():
    _, _, height, width = _boxes([300, 300, 3], (0.01, 0.02), (1.0, 1.0)).T
    assert (height * width / 300**2 < 0.025).all()


def test_crop_that_does_not_fit_takes_the_whole_image():
    np.testing.assert_array_equal(_boxes([10, 100, 3], (0.9, 1.0), (1.0, 1.0), 20), [[0, 0, 10, 100]] * 20)
    np.testing.assert_array_equal(_boxes([1, 1, 3], (0.08, 1.0), (3 / 4, 4 / 3), 20), [[0, 0, 1, 1]] * 20)


def _train(image, seed, **options):
    augmentation = data.Augmentation(**{"crop_area": (0.2, 1.0), **options})
    options = {"image_size": (20, 20), "interpolation": "bicubic", "augmentation": augmentation}
    return transforms.train_transform(image, tf.constant(0), tf.constant(seed, tf.int64), **options)[0]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_cropping_before_and_after_decoding_agree(noise, kind):
    content = io.BytesIO()
    Image.fromarray(noise).save(content, kind)
    decoded = data.decode_image(content.getvalue())
    for i in range(20):
        before, after = _train(tf.constant(content.getvalue()), [0, i]), _train(decoded, [0, i])
        # A JPEG's colors are stored at half size; at the edge of a crop their interpolation lacks its neighbor.
        assert np.abs(before - after).mean() < (2.0 if kind == "JPEG" else 1e-6)


def test_half_are_flipped_and_nothing_else_happens_without_a_crop(noise):
    straight = _train(noise, [0, 0], crop_area=None, flip=False)
    flipped = 0
    for i in range(400):
        found = _train(noise, [3, i], crop_area=None)
        mirrored = bool(np.array_equal(found, straight[:, ::-1]))
        assert mirrored or np.array_equal(found, straight)
        flipped += mirrored
    assert 150 < flipped < 250  # five standard deviations


def test_draws_follow_the_seed_alone(noise):
    np.testing.assert_array_equal(_train(noise, [1, 2]), _train(noise, [1, 2]))
    for other in ([1, 3], [2, 2]):
        assert not np.array_equal(_train(noise, [1, 2]), _train(noise, other))
