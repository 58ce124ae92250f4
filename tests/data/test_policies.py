"""AutoAugment and RandAugment: the tables, the draws, and whole policies computed again with PIL."""

import collections

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from convzoo.data import policies

BY_SIGN = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")
ENHANCE = {
    "Brightness": ImageEnhance.Brightness,
    "Color": ImageEnhance.Color,
    "Contrast": ImageEnhance.Contrast,
    "Sharpness": ImageEnhance.Sharpness,
}


def _seed(number, stream=11):
    return tf.stack([tf.constant(stream, tf.int64), tf.cast(number, tf.int64)])


@pytest.fixture(scope="module")
def image():
    """Smooth, with noise of a few gray levels; uint8 [240, 236, 3], so that 225 pixels of translation leave some."""
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:240, :236]
    waves = [110 + 60 * np.sin(y / a) + 50 * np.cos(x / b) for a, b in ((31, 47), (53, 29), (41, 61))]
    return np.clip(np.stack(waves, -1) + rng.normal(0, 3, (240, 236, 3)), 0, 255).astype(np.uint8)


def _affine(image, numbers):
    return image.transform(image.size, Image.Transform.AFFINE, numbers, Image.Resampling.NEAREST, fillcolor=(128,) * 3)


def _by_pil(name, image, magnitude, turned, translation, center=(0.0, 0.0)):
    """What one operation makes of a PIL image; magnitude on the scale of 10."""
    part = magnitude / 10
    sign = -1 if turned else 1
    if name in ENHANCE:
        return ENHANCE[name](image).enhance(0.1 + 1.8 * part)
    if name == "AutoContrast":
        return ImageOps.autocontrast(image)
    if name == "Equalize":
        return ImageOps.equalize(image)
    if name == "Invert":
        return ImageOps.invert(image)
    if name == "Posterize":
        return ImageOps.posterize(image, int(np.clip(int(4 * part), 1, 8)))
    if name == "Solarize":
        return ImageOps.solarize(image, int(256 * part))
    if name == "SolarizeAdd":
        return image.point([min(255, v + int(110 * part)) if v < 128 else v for v in range(256)] * 3)
    if name == "Rotate":
        return image.rotate(sign * 30 * part, fillcolor=(128,) * 3)
    if name == "ShearX":
        return _affine(image, (1, sign * 0.3 * part, 0, 0, 1, 0))
    if name == "ShearY":
        return _affine(image, (1, 0, 0, sign * 0.3 * part, 1, 0))
    if name == "TranslateX":
        return _affine(image, (1, 0, sign * translation * part, 0, 1, 0))
    if name == "TranslateY":
        return _affine(image, (1, 0, 0, 0, 1, sign * translation * part))
    assert name == "Cutout"
    pixels, half = np.array(image), int(40 * part)
    y, x = (int(np.float32(c) * size) for c, size in zip(center, pixels.shape, strict=False))
    pixels[max(y - half, 0) : y + half, max(x - half, 0) : x + half] = 128
    return Image.fromarray(pixels)


def _auto_by_pil(image, seed):
    """(image, names applied) of AutoAugment, from the draws of a seed."""
    draws = tf.random.stateless_uniform([5], seed).numpy()
    image, names = Image.fromarray(image), []
    for position, (name, chance, magnitude) in enumerate(policies.AUTO_AUGMENT[int(draws[0] * 25)]):
        if draws[1 + position] < chance:
            image = _by_pil(name, image, magnitude, draws[3 + position] >= 0.5, 250)
            names.append(name)
    return np.asarray(image), names


def _rand_by_pil(image, seed, layers, magnitude):
    image, names = Image.fromarray(image), []
    for draws in tf.random.stateless_uniform([layers, 4], seed).numpy():
        name = policies.RAND_AUGMENT[int(draws[0] * 16)]
        image = _by_pil(name, image, magnitude, draws[1] >= 0.5, 100, draws[2:])
        names.append(name)
    return np.asarray(image), names


def _assert_alike(pairs):
    """Images agree within a gray level; pairs: list of (found, expected, names of the operations)."""
    parts = []
    for found, expected, names in pairs:
        off = np.abs(np.asarray(found).astype(int) - expected)
        parts.append((off <= 1).mean())
        assert parts[-1] > 0.99, f"{names}: {(off > 1).mean():.2%} of the pixels differ, up to {off.max()}"
    assert np.mean(parts) > 0.999


@pytest.fixture
def wiring(monkeypatch):
    """Returns wiring(policy, count): the applied operations, a list of (name, strength) for each seed.

    The operations write their numbers into an image that is a log: how many came, then number and strength of each.
    """
    names = []

    def logger(name):
        names.append(name)
        number = float(len(names))

        def write(image, *strength):
            at = 1 + 2 * tf.cast(image[0], tf.int32)
            value = tf.cast(strength[0], tf.float32) if strength else tf.constant(np.nan)
            places = tf.stack([0, at, at + 1])[:, tf.newaxis]
            return tf.tensor_scatter_nd_update(image, places, tf.stack([image[0] + 1, number, value]))

        return write

    for table in (policies._WITHOUT_STRENGTH, policies._BY_FACTOR, policies._BY_LEVEL, policies._SIGNED):
        for name in table:
            monkeypatch.setitem(table, name, logger(name))
    monkeypatch.setattr(policies, "_cutout", logger("Cutout"))

    def run(policy, count):
        log = tf.zeros([9])
        found = tf.data.Dataset.range(count).map(lambda number: policy(log, _seed(number))).as_numpy_iterator()
        return [[(names[int(row[1 + 2 * i]) - 1], float(row[2 + 2 * i])) for i in range(int(row[0]))] for row in found]

    return run


def _assert_frequency(times, count, probability, what):
    assert abs(times - count * probability) <= 5 * np.sqrt(count * probability * (1 - probability)), what


def test_the_table_of_auto_augment():
    table = policies.AUTO_AUGMENT
    assert [len(row) for row in table] == [2] * 25
    assert {chance for row in table for _, chance, _ in row} == {0.0, 0.2, 0.4, 0.6, 0.8, 1.0}
    assert {magnitude for row in table for _, _, magnitude in row} <= set(range(11))
    assert collections.Counter(name for row in table for name, _, _ in row) == {
        "Equalize": 12,
        "Color": 9,
        "Solarize": 8,
        "Rotate": 7,
        "ShearY": 4,
        "ShearX": 2,
        "SolarizeAdd": 2,
        "Posterize": 2,
        "AutoContrast": 2,
        "Invert": 1,
        "TranslateY": 1,
    }
    assert table[0] == (("Equalize", 0.8, 1), ("ShearY", 0.8, 4))
    assert table[4] == (("Solarize", 0.4, 2), ("Solarize", 0.6, 2))
    assert table[15] == (("Rotate", 1.0, 7), ("TranslateY", 0.8, 9))
    assert table[22] == (("Posterize", 0.8, 2), ("Solarize", 0.6, 10))
    assert table[24] == (("Color", 0.8, 6), ("Rotate", 0.4, 5))


def test_the_operations_of_rand_augment():
    assert len(set(policies.RAND_AUGMENT)) == 16
    of_auto = {name for row in policies.AUTO_AUGMENT for name, _, _ in row}
    further = {"Contrast", "Brightness", "Sharpness", "TranslateX", "Cutout"}
    assert set(policies.RAND_AUGMENT) == of_auto | further


@pytest.mark.parametrize(
    ("magnitude", "posterize", "solarize", "solarize_add", "factor", "degrees", "shear", "pixels", "cutout"),
    [
        (0, 1, 0, 0, 0.1, 0, 0, 0, 0),
        (3, 1, 76, 33, 0.64, 9, 0.09, 30, 12),
        (7, 2, 179, 77, 1.36, 21, 0.21, 70, 28),
        (10, 4, 256, 110, 1.9, 30, 0.3, 100, 40),
        (28, 8, 256, 308, 5.14, 84, 0.84, 280, 112),
    ],
)
def test_strengths_of_rand_augment(
    wiring, magnitude, posterize, solarize, solarize_add, factor, degrees, shear, pixels, cutout
):
    sizes, signs = collections.defaultdict(set), collections.defaultdict(set)
    for operations in wiring(lambda log, seed: policies.rand_augment(log, seed, 2, magnitude), 200):
        for name, strength in operations:
            sizes[name].add(round(abs(strength), 4))
            signs[name].add(float(np.sign(strength)))
    for name in ("AutoContrast", "Equalize", "Invert"):
        assert np.isnan(sizes.pop(name).pop())  # these have no strength
    assert {name: size for name, (size,) in sizes.items()} == {
        "Posterize": posterize,
        "Solarize": solarize,
        "SolarizeAdd": solarize_add,
        **dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), factor),
        "Rotate": degrees,
        **dict.fromkeys(("ShearX", "ShearY"), shear),
        **dict.fromkeys(("TranslateX", "TranslateY"), pixels),
        "Cutout": cutout,
    }
    assert all((signs[name] == {-1.0, 1.0}) == (name in BY_SIGN) for name in sizes if magnitude)


def test_rand_augment_frequencies(wiring):
    count, layers = 2000, 3
    found = wiring(lambda log, seed: policies.rand_augment(log, seed, layers, 9), count)
    assert all(len(operations) == layers for operations in found)
    for layer in range(layers):
        times = collections.Counter(operations[layer][0] for operations in found)
        assert set(times) == set(policies.RAND_AUGMENT)
        for name, number in times.items():
            _assert_frequency(number, count, 1 / 16, (layer, name))
    for name in BY_SIGN:
        strengths = np.array([strength for operations in found for given, strength in operations if given == name])
        _assert_frequency((strengths > 0).sum(), len(strengths), 0.5, name)
    pairs = collections.Counter((first, second) for (first, _), (second, _), _ in found)
    assert len(pairs) > 240  # of 256: the layers are drawn by themselves


def test_auto_augment_frequencies(wiring):
    count = 4000
    found = wiring(policies.auto_augment, count)
    expected = collections.Counter()
    for (first, p, _), (second, q, _) in policies.AUTO_AUGMENT:
        expected[(first, second)] += p * q / 25
        expected[(first,)] += p * (1 - q) / 25
        expected[(second,)] += (1 - p) * q / 25
        expected[()] += (1 - p) * (1 - q) / 25
    times = collections.Counter(tuple(name for name, _ in operations) for operations in found)
    assert set(times) <= {names for names, probability in expected.items() if probability > 0}
    for names, probability in expected.items():
        _assert_frequency(times[names], count, probability, names)
    for name in ("Rotate", "ShearX", "ShearY", "TranslateY"):
        strengths = [s for operations in found for given, s in operations if given == name and s != 0]
        _assert_frequency(sum(s > 0 for s in strengths), len(strengths), 0.5, name)


def test_strengths_of_auto_augment(wiring):
    found = wiring(policies.auto_augment, 2000)
    sizes = collections.defaultdict(set)
    for operations in found:
        for name, strength in operations:
            sizes[name].add(round(abs(strength), 4))
    assert sizes["Posterize"] == {2, 1}
    assert sizes["Solarize"] == {51, 76, 102, 204, 256}
    assert sizes["SolarizeAdd"] == {33, 77}
    assert sizes["Color"] == {0.1, 0.28, 0.82, 1.18, 1.36, 1.72}
    assert sizes["Rotate"] == {0, 6, 15, 21, 24, 27}
    assert sizes["ShearX"] == {0.27}
    assert sizes["ShearY"] == {0, 0.09, 0.12, 0.21}
    assert sizes["TranslateY"] == {225}


def test_auto_augment_equals_pil(image):
    policy = tf.function(policies.auto_augment)
    seeds = [_seed(number) for number in range(120)]
    pairs = [(policy(image, seed), *_auto_by_pil(image, seed)) for seed in seeds]
    _assert_alike(pairs)
    seen = {name for _, _, names in pairs for name in names}
    assert seen == {name for row in policies.AUTO_AUGMENT for name, _, _ in row}


@pytest.mark.parametrize(("layers", "magnitude"), [(1, 9), (2, 5), (3, 17)])
def test_rand_augment_equals_pil(image, layers, magnitude):
    policy = tf.function(lambda image, seed: policies.rand_augment(image, seed, layers, magnitude))
    seeds = [_seed(number) for number in range(80)]
    pairs = [(policy(image, seed), *_rand_by_pil(image, seed, layers, magnitude)) for seed in seeds]
    _assert_alike(pairs)
    assert {name for _, _, names in pairs for name in names} == set(policies.RAND_AUGMENT)


@pytest.mark.parametrize(
    "policy", [policies.auto_augment, lambda image, seed: policies.rand_augment(image, seed, 2, 9)]
)
def test_the_seed_alone_decides(image, policy):
    small = image[:50, 30:90]
    unknown = [tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([2], tf.int64)]
    traced = tf.function(policy, input_signature=unknown)
    dataset = tf.data.Dataset.range(30).map(
        lambda number: policy(small, _seed(number)), num_parallel_calls=2, deterministic=True
    )
    assert dataset.element_spec == tf.TensorSpec(small.shape, tf.uint8)
    found = list(dataset.as_numpy_iterator())
    for number, one in enumerate(found):
        np.testing.assert_array_equal(one, traced(small, _seed(number)))
    np.testing.assert_array_equal(found[3], policy(small, _seed(3)))
    assert len({one.tobytes() for one in found}) > 10
    elsewhere = [traced(small, _seed(number, stream=12)).numpy() for number in range(30)]
    assert any(np.any(one != other) for one, other in zip(found, elsewhere, strict=True))


def test_cutout_reaches_every_corner():
    image = np.zeros((60, 50, 3), np.uint8)
    centers = tf.constant([[0.0, 0.0], [0.0, 0.999], [0.999, 0.0], [0.999, 0.999], [0.5, 0.5]])
    gray = [np.asarray(policies._cutout(tf.constant(image), tf.constant(10), center)) == 128 for center in centers]
    assert [tuple(one.any(-1).nonzero()[0][[0, -1]]) for one in gray] == [(0, 9), (0, 9), (49, 59), (49, 59), (20, 39)]
    assert [tuple(one.any(-1).nonzero()[1][[0, -1]]) for one in gray] == [(0, 9), (39, 49), (0, 9), (39, 49), (15, 34)]
