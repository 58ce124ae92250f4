"""Batches: order, resumption, shards and counts."""

import numpy as np
import pytest
import tensorflow as tf

from convzoo import data
from convzoo.errors import DataError

# Images stay recognisable; only the order is drawn.
NO_CHANCE = {"augmentation": data.Augmentation(crop_area=None, flip=False)}


@pytest.fixture(scope="module")
def source(idx_folder):
    """23 training images of 6x5, all different."""
    return data.open_source(f"idx:{idx_folder}")


def _images(source, count, settings, split="train", **options):
    """The first count images of a stream, [count, 6, 5, 3]."""
    options = {"batch_size": 4, "seed": 0, **options}
    batches = data.train_dataset(source, split, **options, **settings).take(-(-count // options["batch_size"]))
    return np.concatenate([batch["image"].numpy() for batch in batches])[:count]


def _names(images, idx_arrays):
    """Which of the written images each one is."""
    known = {image.astype(np.float32).tobytes(): i for i, image in enumerate(idx_arrays["train"][0])}
    return [known[np.ascontiguousarray(image[..., 0]).tobytes()] for image in images]


def test_shapes_and_types(source):
    options = {"image_size": (12, 10), "mean": (127.0, 127.0, 127.0), "std": (64.0, 64.0, 64.0), "batch_size": 4}
    train = data.train_dataset(source, "train", seed=0, **options)
    assert train.element_spec == {
        "image": tf.TensorSpec([4, 12, 10, 3], tf.float32),
        "label": tf.TensorSpec([4], tf.int32),
    }
    evaluation = data.eval_dataset(source, "test", **options)
    assert evaluation.element_spec == {**train.element_spec, "mask": tf.TensorSpec([4], tf.float32)}
    batch = next(iter(train))
    assert batch["image"].shape == (4, 12, 10, 3)
    assert -3 < batch["image"].numpy().min() < batch["image"].numpy().max() < 3


def test_labels_stay_with_their_images(source, settings, idx_arrays):
    for batch in data.train_dataset(source, "train", batch_size=4, seed=0, **NO_CHANCE, **settings).take(12):
        names = _names(batch["image"].numpy(), idx_arrays)
        np.testing.assert_array_equal(batch["label"], idx_arrays["train"][1][names])


def test_every_epoch_has_each_example_once_and_batches_run_on(source, settings, idx_arrays):
    names = _names(_images(source, 4 * 23, settings, **NO_CHANCE), idx_arrays)
    epochs = [names[i : i + 23] for i in range(0, 4 * 23, 23)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(23))
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_orders_are_uniform(source, settings, idx_arrays):
    """Over 200 epochs, each image has each position about equally often."""
    names = _names(_images(source, 200 * 23, settings, batch_size=230, **NO_CHANCE), idx_arrays)
    counts = np.zeros((23, 23))
    for place, name in enumerate(names):
        counts[place % 23, name] += 1
    expected = 200 / 23
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert 22**2 * 0.75 < chi_square < 22**2 * 1.25  # four standard deviations


def test_resuming_at_any_batch_gives_the_same_stream(source, settings):
    straight = _images(source, 48, settings)  # two epochs of 23 and two more
    for step in range(12):
        resumed = _images(source, 48 - 4 * step, settings, first_example=4 * step)
        np.testing.assert_array_equal(resumed, straight[4 * step :])


def test_resuming_far_away_is_quick_and_right(source, settings, idx_arrays):
    first = 23 * 10**9 + 20
    names = _names(_images(source, 26, settings, first_example=first, **NO_CHANCE), idx_arrays)
    assert sorted(names[3:]) == list(range(23))
    assert set(names[:3]) <= set(range(23))


@pytest.mark.parametrize("first", [0, 12, 25])
def test_shards_share_the_one_stream(source, settings, first):
    whole = _images(source, first + 48, settings)
    for index in range(3):
        numbers = [n for n in range(first, first + 48) if n % 3 == index]
        shard = _images(source, 16, settings, shard=(index, 3), first_example=first)
        np.testing.assert_array_equal(shard, whole[numbers])


def test_more_shards_than_examples(source, settings):
    """A shard may have nothing of one epoch and something of the next."""
    whole = _images(source, 80, settings, split="train[:3]")
    for index in range(5):
        shard = _images(source, 16, settings, split="train[:3]", shard=(index, 5))
        np.testing.assert_array_equal(shard, whole[index::5])


def test_the_seed_decides(source, settings, idx_arrays):
    np.testing.assert_array_equal(_images(source, 46, settings), _images(source, 46, settings))
    orders = [_names(_images(source, 23, settings, seed=seed, **NO_CHANCE), idx_arrays) for seed in (0, 1, -1)]
    assert len(set(map(tuple, orders))) == 3
    assert not np.array_equal(_images(source, 23, settings), _images(source, 23, settings, seed=1))


def test_the_global_seed_decides_nothing(source, settings):
    before = _images(source, 30, settings)
    for seed in (0, 99):
        tf.random.set_seed(seed)
        np.testing.assert_array_equal(_images(source, 30, settings), before)


def test_augmentation_changes_from_epoch_to_epoch(source, settings):
    one = _images(source, 6, settings, split="train[:1]")
    assert len(np.unique(one.reshape(6, -1), axis=0)) > 1


@pytest.mark.parametrize(("batch_size", "shards"), [(1, 1), (3, 1), (7, 1), (10, 1), (2, 2), (3, 5), (2, 9)])
def test_evaluation_counts_each_example_once(source, settings, idx_arrays, batch_size, shards):
    found = []
    for index in range(shards):
        batches = list(
            data.eval_dataset(
                source, "test", batch_size=batch_size, shard=(index, shards), crop_fraction=1.0, **settings
            )
        )
        assert len(batches) == data.num_eval_batches(source, "test", batch_size, shards)
        for batch in batches:
            mask = batch["mask"].numpy()
            assert batch["image"].shape == (batch_size, 6, 5, 3)
            assert set(mask) <= {0.0, 1.0}
            assert not batch["image"].numpy()[mask == 0].any()
            assert not batch["label"].numpy()[mask == 0].any()
            found += [
                (int(label), image.tobytes())
                for label, image in zip(batch["label"][mask == 1], batch["image"].numpy()[mask == 1], strict=True)
            ]
    images, labels = idx_arrays["t10k"]
    expected = [
        (
            int(label),
            data.eval_transform(image[..., None], crop_fraction=1.0, **settings).numpy().tobytes(),
        )
        for image, label in zip(images, labels, strict=True)
    ]
    assert sorted(found) == sorted(expected)


def test_evaluation_keeps_its_order(source, settings):
    labels = [
        int(n) for batch in data.eval_dataset(source, "train[2:9]", batch_size=3, **settings) for n in batch["label"]
    ]
    assert labels == [2, 3, 0, 1, 2, 3, 0, 0, 0]  # of images 2 to 8, then twice the filling


def test_num_eval_batches(source):
    assert data.num_eval_batches(source, "train", 23) == 1
    assert data.num_eval_batches(source, "train", 22) == 2
    assert data.num_eval_batches(source, "train", 4, num_shards=5) == 2


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"batch_size": 0}, ["batch_size=0"]),
        ({"batch_size": 2.5}, ["batch_size=2.5"]),
        ({"image_size": (8,)}, ["image_size=(8,)"]),
        ({"image_size": 8}, ["image_size=8"]),
        ({"image_size": (8, 0)}, ["image_size=(8, 0)"]),
        ({"mean": (1.0,)}, ["mean=(1.0,)"]),
        ({"std": (1.0, 0.0, 1.0)}, ["std=(1.0, 0.0, 1.0)"]),
        ({"shard": (2, 2)}, ["shard=(2, 2)"]),
        ({"shard": (0, 0)}, ["shard=(0, 0)"]),
        ({"interpolation": "nearest"}, ["'nearest'", "bicubic or bilinear"]),
        ({"split": "val"}, ["'val'", "train (23 examples)"]),
    ],
)
def test_invalid_arguments_of_both_datasets(source, settings, change, parts):
    options = {"split": "train", "batch_size": 4, **settings, **change}
    split = options.pop("split")
    for make in (
        lambda: data.train_dataset(source, split, seed=0, **options),
        lambda: data.eval_dataset(source, split, **options),
    ):
        with pytest.raises(DataError) as error:
            make()
        assert "\n" not in str(error.value)
        for part in parts:
            assert part in str(error.value), error.value


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"seed": 1.5}, "seed=1.5"),
        ({"first_example": -1}, "first_example=-1"),
        ({"shuffle_buffer": 0}, "shuffle_buffer=0"),
        ({"augmentation": data.Augmentation(crop_area=(0.5, 1.2))}, r"crop_area=\(0.5, 1.2\)"),
        ({"augmentation": data.Augmentation(crop_area=(0.5, 0.4))}, r"crop_area=\(0.5, 0.4\)"),
        ({"augmentation": data.Augmentation(crop_aspect=(0.0, 1.0))}, r"crop_aspect=\(0.0, 1.0\)"),
    ],
)
def test_invalid_arguments_of_train_dataset(source, settings, change, part):
    with pytest.raises(DataError, match=part):
        data.train_dataset(source, "train", batch_size=4, **{"seed": 0, **change}, **settings)


@pytest.mark.parametrize("fraction", [0.0, 1.1, -1.0, "all"])
def test_invalid_arguments_of_eval_dataset(source, settings, fraction):
    with pytest.raises(DataError, match="crop_fraction"):
        data.eval_dataset(source, "test", batch_size=4, crop_fraction=fraction, **settings)
