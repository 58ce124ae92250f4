"""Random erasing: area, aspect ratio, noise, and unchanged pixels."""

import numpy as np
import pytest
import tensorflow as tf

from convzoo.data.random_erasing import paste, random_erasing

HEIGHT, WIDTH = 40, 60
PLAIN = np.full((HEIGHT, WIDTH, 3), 7, np.uint8)


def _many(image, probability, count):
    """Erase one image with the seeds (3, 0), (3, 1), ... in a pipeline: uint8 [count, height, width, 3]."""
    dataset = tf.data.Dataset.range(count).map(
        lambda number: random_erasing(image, tf.stack([tf.constant(3, tf.int64), number]), probability)
    )
    return np.stack(list(dataset.as_numpy_iterator()))


def _boxes(images):
    """Returns (top, bottom, left, right) of the pixels that differ from PLAIN, int [n, 4]; all 0 for no difference."""
    boxes = []
    for image in images:
        rows, columns = np.nonzero((image != PLAIN).any(-1))
        box = (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) if len(rows) else (0, 0, 0, 0)
        boxes.append(box)
    return np.array(boxes)


@pytest.fixture(scope="module")
def erased():
    return _many(PLAIN, 1.0, 2000)


def test_area_and_aspect_are_those_of_the_paper(erased):
    top, bottom, left, right = _boxes(erased).T
    height, width = bottom - top, right - left
    assert np.all(height > 0)  # of ten attempts one always fits here
    part = height * width / (HEIGHT * WIDTH)
    slack = (height + width) / 2 / (HEIGHT * WIDTH)  # sides are whole pixels
    assert np.all(part > 0.02 - slack)
    assert np.all(part < 1 / 3 + slack)
    assert part.min() < 0.03
    assert part.max() > 0.3
    aspect = height / width
    assert np.all((height + 0.5) / (width - 0.5) > 0.3)
    assert np.all((height - 0.5) / (width + 0.5) < 1 / 0.3)
    assert aspect.min() < 0.35
    assert aspect.max() > 1 / 0.36
    # Of small rectangles, which always fit, the area and the logarithm of the aspect are drawn evenly.
    small = part < 0.12
    logarithm = np.log(aspect[small]) / np.log(1 / 0.3)  # evenly from -1 to 1: deviation 1 / sqrt(3)
    assert abs(logarithm.mean()) < 5 / np.sqrt(3 * small.sum())
    assert abs((np.abs(logarithm) < 0.5).mean() - 0.5) < 0.05 + 5 * 0.5 / np.sqrt(small.sum())
    assert abs((part[small] < 0.07).mean() - 0.5) < 0.05 + 5 * 0.5 / np.sqrt(small.sum())


def test_it_lies_anywhere(erased):
    top, bottom, left, right = _boxes(erased).T
    assert (top.min(), bottom.max(), left.min(), right.max()) == (0, HEIGHT, 0, WIDTH)
    for first, end, size in ((top, bottom, HEIGHT), (left, right, WIDTH)):
        free = size - (end - first)
        where = first[free > 3] / free[free > 3]  # evenly from 0 to 1
        assert abs(where.mean() - 0.5) < 5 / np.sqrt(12 * len(where))


def test_the_rest_is_untouched_and_the_rectangle_full(erased):
    for image, (top, bottom, left, right) in zip(erased, _boxes(erased), strict=True):
        inside = image[top:bottom, left:right]
        kept = (inside == 7).mean()
        assert kept < 1 / 256 + 5 * np.sqrt(1 / 256 / inside.size) + 2 / inside.size
        outside = image.astype(int)
        outside[top:bottom, left:right] = 7
        assert np.all(outside == 7)


def test_noise_is_even_over_bytes_pixels_and_channels(erased):
    inside = [
        image[top:bottom, left:right].reshape(-1, 3)
        for image, (top, bottom, left, right) in zip(erased, _boxes(erased), strict=True)
    ]
    found = np.concatenate(inside).astype(float)
    for channel in found.T:
        counts = np.bincount(channel.astype(int), minlength=256)
        expected = len(channel) / 256
        assert np.all(np.abs(counts - expected) < 6 * np.sqrt(expected))
    correlation = np.corrcoef(np.concatenate([found[:-1], found[1:]], 1).T) - np.eye(6)
    assert np.abs(correlation).max() < 6 / np.sqrt(len(found))


@pytest.mark.parametrize("probability", [0.25, 0.9])
def test_as_often_as_asked(probability):
    count = 2000
    taken = (_many(PLAIN, probability, count) != PLAIN).any((1, 2, 3)).mean()
    assert abs(taken - probability) < 5 * np.sqrt(probability * (1 - probability) / count)


def test_never_and_always():
    assert np.all(_many(PLAIN, 0.0, 5) == PLAIN)
    assert np.all((_many(PLAIN, 1.0, 50) != PLAIN).any((1, 2, 3)))


def test_the_seed_alone_decides():
    seeds = [tf.constant([5, n], tf.int64) for n in range(3)]
    one, other, again = (random_erasing(PLAIN, seed, 1.0).numpy() for seed in (seeds[0], seeds[1], seeds[0]))
    np.testing.assert_array_equal(one, again)
    assert np.any(one != other)
    traced = tf.function(
        lambda image, seed: random_erasing(image, seed, 1.0),
        input_signature=[tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([2], tf.int64)],
    )
    for seed in seeds:
        np.testing.assert_array_equal(traced(PLAIN, seed), random_erasing(PLAIN, seed, 1.0))


def test_erased_images_get_different_noise():
    one, other = (random_erasing(PLAIN, tf.constant([1, n], tf.int64), 1.0).numpy() for n in (0, 1))
    noises = []
    for image in (one, other):
        top, bottom, left, right = _boxes([image])[0]
        noises.append(image[top:bottom, left:right].reshape(-1)[:50])
    first, second = noises
    assert (first == second).mean() < 0.3


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 50, 3), (2, 3, 3)])
def test_where_little_or_nothing_fits(shape):
    image = np.full(shape, 7, np.uint8)
    found = _many(image, 1.0, 40)
    assert found.shape == (40, *shape)


def test_static_shape_is_kept():
    spec = tf.data.Dataset.range(1).map(lambda n: random_erasing(PLAIN, tf.stack([n, n]), 0.5)).element_spec
    assert spec == tf.TensorSpec(PLAIN.shape, tf.uint8)


def test_paste_by_hand():
    rng = np.random.default_rng(0)
    image, patch = (rng.integers(0, 256, shape, np.uint8) for shape in ((9, 7, 3), (4, 3, 3)))
    for top, left in ((0, 0), (5, 4), (2, 1)):
        expected = image.copy()
        expected[top : top + 4, left : left + 3] = patch
        np.testing.assert_array_equal(paste(image, patch, top, left), expected)
