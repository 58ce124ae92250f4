"""Color jitter: factors, order and results."""

import collections
import itertools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance

from convzoo.data import color
from convzoo.data.color_jitter import color_jitter

NAMES = ("brightness", "contrast", "saturation")
BY_PIL = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}


def _seed(number):
    return tf.stack([tf.constant(8, tf.int64), tf.cast(number, tf.int64)])


@pytest.fixture
def image():
    rng = np.random.default_rng(2)
    ramp = np.linspace(20, 200, 48)[:, None, None] + np.linspace(0, 50, 40)[:, None] * np.array([1.0, -0.4, 0.3])
    return np.clip(ramp + rng.normal(0, 12, (48, 40, 3)), 0, 255).astype(np.uint8)


@pytest.fixture
def records(monkeypatch):
    """records(strengths, count): order of the operations int [count, 3] (-1: left out) and factors [count, 3].

    The operations write into the image when they came and with which factor.
    """
    for number, name in enumerate(NAMES):

        def write(image, factor, number=number):
            values = tf.stack([image[0], factor, image[0] + 1])
            return tf.tensor_scatter_nd_update(image, [[1 + number], [4 + number], [0]], values)

        monkeypatch.setattr(color, name, write)

    def run(strengths, count):
        empty = tf.constant([0.0, -1, -1, -1, np.nan, np.nan, np.nan])
        dataset = tf.data.Dataset.range(count).map(lambda number: color_jitter(empty, _seed(number), *strengths))
        found = np.stack(list(dataset.as_numpy_iterator()))
        return found[:, 1:4].astype(int), found[:, 4:]

    return run


def test_orders_are_equally_frequent(records):
    count = 3000
    orders = collections.Counter(map(tuple, records((0.4, 0.4, 0.4), count)[0]))
    assert set(orders) == set(itertools.permutations(range(3)))
    for times in orders.values():
        assert abs(times - count / 6) < 5 * np.sqrt(count * 5 / 36)


def test_factors_fill_their_range_and_are_independent(records):
    strengths = (0.4, 0.1, 1.5)
    orders, factors = records(strengths, 3000)
    for strength, factor in zip(strengths, factors.T, strict=True):
        low, high = max(0.0, 1 - strength), 1 + strength
        assert low <= factor.min() < low + 0.01 * (high - low)
        assert high >= factor.max() > high - 0.01 * (high - low)
        parts = np.histogram(factor, 10, (low, high))[0]
        assert np.all(np.abs(parts - 300) < 5 * np.sqrt(300 * 0.9))
    correlation = np.corrcoef(np.concatenate([factors, orders[:, :2]], 1).T)[:3] - np.eye(3, 5)
    assert np.abs(correlation).max() < 5 / np.sqrt(3000)


def test_strength_0_leaves_an_operation_out(records):
    for chosen in itertools.product([0.0, 0.3], repeat=3):
        orders, factors = records(chosen, 80)
        left_out = np.array(chosen) == 0
        assert np.all((orders == -1) == left_out)
        assert np.all(np.isnan(factors) == left_out)
        places = sum(not out for out in left_out)
        assert len(set(map(tuple, orders))) == len(list(itertools.permutations(range(places))))


def test_images_are_those_of_pil(image):
    """Factors and order recomputed from the draws of the seed: the order, then the three factors."""
    strengths = (0.4, 0.5, 0.6)
    orders = list(itertools.permutations(NAMES))
    for number in range(40):
        draws = tf.random.stateless_uniform([4], _seed(number)).numpy().astype(np.float64)
        factors = {name: 1 - s + 2 * s * draw for name, s, draw in zip(NAMES, strengths, draws[1:], strict=True)}
        expected = Image.fromarray(image)
        for name in orders[int(draws[0] * 6)]:
            expected = BY_PIL[name](expected).enhance(factors[name])
        found = color_jitter(image, _seed(number), *strengths)
        assert found.dtype == tf.uint8
        off = np.abs(found.numpy().astype(int) - np.asarray(expected))
        assert (off <= 1).mean() > 0.99
        assert off.max() <= 4


def test_the_seed_alone_decides(image):
    jitter = tf.function(
        lambda image, seed: color_jitter(image, seed, 0.4, 0.4, 0.4),
        input_signature=[tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([2], tf.int64)],
    )
    one, again, other = (color_jitter(image, _seed(n), 0.4, 0.4, 0.4).numpy() for n in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(one, jitter(image, _seed(1)))
    assert np.any(one != other)


def test_in_a_pipeline(image):
    dataset = tf.data.Dataset.range(6).map(
        lambda n: color_jitter(image, _seed(n), 0.4, 0.4, 0.4), num_parallel_calls=2, deterministic=True
    )
    assert dataset.element_spec == tf.TensorSpec(image.shape, tf.uint8)
    for number, found in enumerate(dataset.as_numpy_iterator()):
        np.testing.assert_array_equal(found, color_jitter(image, _seed(number), 0.4, 0.4, 0.4))
