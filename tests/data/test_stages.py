"""Each stage of the input pipelines alone. tests/data/test_corrupt.py has the replacement of corrupt images."""

import numpy as np
import pytest
import tensorflow as tf

from convzoo import data
from convzoo.data import stages
from convzoo.data.corrupt import NOT_CORRUPT

MEAN, STD = (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)
NORMALIZATION = {"mean": MEAN, "std": STD}
SIZE = {"image_size": (4, 6), "interpolation": "bilinear"}


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), np.uint8)


@pytest.fixture
def examples(images):
    """Five examples with the numbers 10 to 14 and the labels 0 to 4."""
    rows = tf.data.Dataset.from_tensor_slices({"image": images, "label": np.arange(5)})
    return tf.data.Dataset.zip((tf.data.Dataset.range(10, 15), rows))


def elements(dataset):
    return list(dataset.as_numpy_iterator())


def test_repeat(examples):
    assert stages.repeat(examples, 1) is examples
    found = elements(stages.repeat(examples.take(2), 3))
    assert [(number, example["label"]) for number, example in found] == [
        (30, 0), (31, 0), (32, 0), (33, 1), (34, 1), (35, 1)
    ]  # fmt: skip


def test_augment_without_augmentation_normalizes(examples, images):
    augmentation = data.Augmentation(crop_area=None, flip=False)
    for (number, element), image in zip(
        elements(stages.augment(examples, augmentation, seed=0, **SIZE, **NORMALIZATION)), images, strict=True
    ):
        np.testing.assert_allclose(element["image"], (image - np.array(MEAN)) / np.array(STD), rtol=1e-5)
        assert (element["label"], element["label"].dtype, number) == (number - 10, np.int32, number)


def test_augment_depends_on_seed_and_number_only(examples):
    augmentation = data.Augmentation(crop_area=(0.2, 0.5))

    def augment(dataset, seed):
        return {
            n: e["image"]
            for n, e in elements(stages.augment(dataset, augmentation, seed=seed, **SIZE, **NORMALIZATION))
        }

    whole, rest, other = augment(examples, 0), augment(examples.skip(3), 0), augment(examples, 1)
    assert list(rest) == [13, 14]
    for number in rest:
        np.testing.assert_array_equal(rest[number], whole[number])
    assert not all(np.array_equal(whole[number], other[number]) for number in whole)


def test_augment_leaves_bytes_for_mixing(examples):
    augmentation = data.Augmentation(crop_area=None, flip=False, mixup=0.2)
    _, element = elements(stages.augment(examples, augmentation, seed=0, **SIZE, **NORMALIZATION))[0]
    assert (element["image"].dtype, element["mix"].shape) == (np.uint8, (6,))


def test_preprocess_decodes_and_keeps_label_maps(images):
    encoded = [tf.io.encode_png(image) for image in images]
    maps = images[..., 0] % 7
    dataset = tf.data.Dataset.from_tensor_slices({"image": encoded, "label": maps})
    dataset = tf.data.Dataset.zip((tf.data.Dataset.range(5), dataset))
    found = elements(stages.preprocess(dataset, crop_fraction=None, **SIZE, **NORMALIZATION))
    for (_, element), image, label_map in zip(found, images, maps, strict=True):
        np.testing.assert_allclose(element["image"], (image - np.array(MEAN)) / np.array(STD), rtol=1e-5)
        np.testing.assert_array_equal(element["label"], label_map)
        assert element["mask"] == 1.0


def test_pad_and_batch(examples):
    prepared = stages.preprocess(examples, crop_fraction=None, **SIZE, **NORMALIZATION)
    padded = stages.pad(prepared, tf.data.Dataset.range(15, 18))
    assert [number for number, _ in elements(padded)] == [10, 11, 12, 13, 14, 15, 16, 17]
    batches = elements(stages.batch(padded, 3))
    assert [batch["mask"].tolist() for batch in batches] == [[1, 1, 1], [1, 1, 0]]  # two of eight are dropped
    np.testing.assert_array_equal(batches[1]["image"][2], 0)


def test_keep_order_overrides_the_callers_options(examples):
    options = tf.data.Options()
    options.deterministic = False
    assert stages.keep_order(examples.with_options(options)).options().deterministic is True


def test_mask_corrupt(examples):
    batches = tf.data.Dataset.from_tensors({"mask": [1.0, 1.0, 0.0], "corrupt": [NOT_CORRUPT, 7, NOT_CORRUPT]})
    assert elements(stages.mask_corrupt(batches))[0]["mask"].tolist() == [1, 0, 0]
    assert stages.mask_corrupt(examples.map(lambda number, example: example)).element_spec.keys() == {"image", "label"}


def test_mix_with_the_image_half_a_batch_before(images):
    batch = {
        "image": images[:4],
        "label": np.arange(4, dtype=np.int32),
        "mix": np.tile(np.float32([0.75, 0.75, 0, 0, 4, 6]), (4, 1)),
    }
    batches = tf.data.Dataset.from_tensors(batch)
    found = elements(stages.mix(batches, data.Augmentation(mixup=0.2), num_classes=4, **NORMALIZATION))[0]
    mixed = 0.75 * images[:4] + 0.25 * images[[2, 3, 0, 1]]
    np.testing.assert_allclose(found["image"], (mixed - np.array(MEAN)) / np.array(STD), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["label"], 0.75 * np.eye(4) + 0.25 * np.eye(4)[[2, 3, 0, 1]])
    assert stages.mix(batches, data.Augmentation(), num_classes=4, **NORMALIZATION) is batches


def test_normalize_changes_bytes_only(images):
    batches = tf.data.Dataset.from_tensors({"image": images})
    (found,) = elements(stages.normalize(batches, **NORMALIZATION))
    np.testing.assert_allclose(found["image"], (images - np.array(MEAN)) / np.array(STD), rtol=1e-5, atol=1e-6)
    floats = tf.data.Dataset.from_tensors({"image": images.astype(np.float32)})
    assert stages.normalize(floats, **NORMALIZATION) is floats
