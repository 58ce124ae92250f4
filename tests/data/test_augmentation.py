"""Augmentation settings, and augmented images in a pipeline."""

import numpy as np
import pytest
import tensorflow as tf

from convzoo import data
from convzoo.data import transforms
from convzoo.errors import DataError

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
NOTHING = {"crop_area": None, "flip": False}
EACH = {
    "crop": {"crop_area": (0.3, 0.8)},
    "padding": {**NOTHING, "crop_padding": 2},
    "flip": {**NOTHING, "flip": True},
    "jitter": {**NOTHING, "color_jitter": (0.4, 0.4, 0.4)},
    "auto_augment": {**NOTHING, "auto_augment": True},
    "rand_augment": {**NOTHING, "rand_augment": (2, 10.0)},
    "erasing": {**NOTHING, "random_erasing": 1.0},
    "mixup": {**NOTHING, "mixup": 1.0},
    "cutmix": {**NOTHING, "cutmix": 1.0},
    "all": {
        "crop_area": (0.3, 0.8), "color_jitter": (0.4, 0.4, 0.4), "auto_augment": True, "random_erasing": 0.5,
        "mixup": 0.2, "cutmix": 1.0, "repeated_augmentation": 2,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def source():
    return data.open_source("fake:classes=3,size=16,examples=12")


def batches(source, change, count, **options):
    options = {"batch_size": 4, "seed": 0, "image_size": (16, 16), "interpolation": "bilinear", **PLAIN, **options}
    made = data.train_dataset(source, "train", augmentation=data.Augmentation(**change), **options)
    return [{name: value.numpy() for name, value in batch.items()} for batch in made.take(count)]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("name", EACH)
def test_each_changes_images_and_can_be_resumed_at_every_batch(source, name):
    plain, straight = batches(source, NOTHING, 7), batches(source, EACH[name], 7)
    if EACH[name].get("repeated_augmentation", 1) == 1:
        assert any(not np.array_equal(a["image"], b["image"]) for a, b in zip(plain, straight, strict=True))
    for batch in straight:
        assert batch["image"].dtype == np.float32
        assert batch["image"].min() >= 0
        assert batch["image"].max() <= 255
    for step in range(1, 7):
        assert_same(batches(source, EACH[name], 7 - step, first_example=4 * step), straight[step:])


def test_threads_change_nothing(source):
    def made(threads):
        options = tf.data.Options()
        options.threading.private_threadpool_size = threads
        made = data.train_dataset(
            source, "train", augmentation=data.Augmentation(**EACH["all"]), batch_size=4, seed=0, image_size=(16, 16),
            interpolation="bilinear", **PLAIN,
        )  # fmt: skip
        return [{name: value.numpy() for name, value in batch.items()} for batch in made.with_options(options).take(6)]

    assert_same(made(8), made(1))


@pytest.mark.parametrize("hosts", [2, 3])
def test_hosts_share_the_images_of_one(source, hosts):
    change = {
        name: value for name, value in EACH["all"].items() if name not in ("mixup", "cutmix", "repeated_augmentation")
    }
    whole = np.concatenate([batch["image"] for batch in batches(source, change, 6)])
    for index in range(hosts):
        part = batches(source, change, 24 // hosts, batch_size=1, shard=(index, hosts))
        np.testing.assert_array_equal(np.concatenate([batch["image"] for batch in part]), whole[index::hosts])


def test_repeated_augmentation_order(source):
    twice = batches(source, {**NOTHING, "repeated_augmentation": 2}, 6)
    once = batches(source, NOTHING, 3)
    labels, images = (np.concatenate([batch[name] for batch in twice]) for name in ("label", "image"))
    np.testing.assert_array_equal(images[::2], images[1::2])
    np.testing.assert_array_equal(images[::2], np.concatenate([batch["image"] for batch in once]))
    np.testing.assert_array_equal(labels[::2], labels[1::2])
    cropped = np.concatenate([batch["image"] for batch in batches(source, {"repeated_augmentation": 2}, 6)])
    assert not any(np.array_equal(a, b) for a, b in zip(cropped[::2], cropped[1::2], strict=True))


@pytest.mark.parametrize("hosts", [2, 3])
def test_hosts_share_repeats_too(source, hosts):
    whole = np.concatenate([batch["image"] for batch in batches(source, {"repeated_augmentation": 2}, 9)])
    whole = whole.reshape(-1, 2, 16, 16, 3)
    for index in range(hosts):
        part = batches(source, {"repeated_augmentation": 2}, 18 // hosts, batch_size=2, shard=(index, hosts))
        np.testing.assert_array_equal(np.stack([batch["image"] for batch in part]), whole[index::hosts])


def test_a_padded_crop_is_a_window_of_the_padded_image():
    image = np.random.default_rng(0).integers(1, 256, (9, 7, 3), np.uint8)
    padded = np.pad(image, ((3, 3), (3, 3), (0, 0))).astype(np.float32)
    windows = {padded[y : y + 9, x : x + 7].tobytes(): (y, x) for y in range(7) for x in range(7)}
    augmentation = data.Augmentation(crop_area=None, crop_padding=3, flip=False)
    seen = set()
    for number in range(400):
        found, _ = transforms.train_transform(
            image,
            tf.constant(0),
            tf.constant([0, number], tf.int64),
            image_size=(9, 7),
            interpolation="bicubic",
            augmentation=augmentation,
        )
        seen.add(windows[found.numpy().tobytes()])
    assert len(seen) == 49  # one is missed in 400 draws with a chance of 1 in 80


def test_bytes_are_rounded_and_not_cut_off():
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    options = {"image_size": (20, 30), "interpolation": "bicubic"}
    seed = tf.constant([0, 1], tf.int64)
    floats, _ = transforms.train_transform(
        image, tf.constant(0), seed, augmentation=data.Augmentation(**NOTHING), **options
    )
    mixed = data.Augmentation(**NOTHING, mixup=0.2)
    found, _ = transforms.train_transform(image, tf.constant(0), seed, augmentation=mixed, **options)
    assert found.dtype == tf.uint8
    np.testing.assert_array_equal(found, np.clip(np.floor(floats.numpy() + 0.5), 0, 255))


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"crop_area": 0.5}, "crop_area=0.5"),
        ({"crop_area": (0.08, None)}, "None"),
        ({"crop_aspect": (0.75, "4/3")}, "'4/3'"),
        ({"crop_padding": -1, "crop_area": None}, "crop_padding=-1"),
        ({"crop_padding": 4}, "crop_padding=4 and crop_area"),
        ({"color_jitter": (0.4, 0.4)}, r"color_jitter=\(0.4, 0.4\)"),
        ({"color_jitter": (0.4, 0.4, -0.1)}, "-0.1"),
        ({"rand_augment": (2,)}, r"rand_augment=\(2,\)"),
        ({"rand_augment": (0, 10)}, r"rand_augment\[0\]=0"),
        ({"rand_augment": (2, 31)}, r"rand_augment=\(2, 31\)"),
        ({"rand_augment": (2, 10), "auto_augment": True}, "exclude each other"),
        ({"random_erasing": 1.5}, "random_erasing=1.5"),
        ({"mixup": -0.2}, "mixup=-0.2"),
        ({"mixup": float("inf")}, "mixup=inf"),
        ({"cutmix": "on"}, "cutmix='on'"),
        ({"repeated_augmentation": 0}, "repeated_augmentation=0"),
        ({"repeated_augmentation": 3}, "repeated_augmentation=3"),  # batches of four
    ],
)
def test_invalid_arguments(source, change, part):
    with pytest.raises(DataError, match=part) as error:
        batches(source, change, 1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", [{"mixup": 0.2}, {"auto_augment": True}, {"random_erasing": 0.1}])
def test_label_maps_reject_image_only_augmentation(change):
    shapes = data.open_source("shapes:size=16,examples=8", label_kind="map")
    with pytest.raises(DataError, match=next(iter(change))):
        batches(shapes, change, 1)


def test_color_jitter_with_label_maps(source):
    shapes = data.open_source("shapes:size=16,examples=8", label_kind="map")
    plain, jittered = (batches(shapes, {**NOTHING, "color_jitter": (s, s, s)}, 2) for s in (0.0, 0.4))
    for one, other in zip(plain, jittered, strict=True):
        np.testing.assert_array_equal(one["label"], other["label"])
        assert not np.array_equal(one["image"], other["image"])
