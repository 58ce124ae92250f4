"""Images that cannot be decoded, and unusual ones that can."""

import io
import logging

import numpy as np
import pytest
import tensorflow as tf
from absl import logging as absl_logging
from PIL import Image

from convzoo import data
from convzoo.data import corrupt
from convzoo.errors import DataError

SETTINGS = {"image_size": (8, 8), "mean": (0.0,) * 3, "std": (1.0,) * 3, "interpolation": "bilinear"}
NO_CHANCE = {"augmentation": data.Augmentation(crop_area=None, flip=False)}


def jpeg(color, size=(20, 24), mode="RGB", kind="JPEG", **options):
    content = io.BytesIO()
    Image.new(mode, size, color).save(content, kind, **options)
    return content.getvalue()


def sound(number):
    """An image whose color encodes its number."""
    return jpeg((number * 8, number * 8, number * 8), quality=100, subsampling=0)


@pytest.fixture
def folder(tmp_path):
    """Returns make(numbers): writes train/a with 20 images, of which `numbers` are corrupt in different ways."""
    ways = [
        lambda whole: b"",
        lambda whole: whole[: len(whole) // 3],
        lambda whole: b"no image",
        lambda whole: whole[40:],
    ]

    def make(numbers):
        (tmp_path / "train" / "a").mkdir(parents=True)
        for number in range(20):
            content = sound(number)
            if number in numbers:
                content = ways[number % len(ways)](content)
            (tmp_path / "train" / "a" / f"{number:02d}.jpg").write_bytes(content)
        return data.open_source(f"folder:{tmp_path}")

    return make


@pytest.fixture
def messages():
    """Messages of the log."""
    lines = []

    class Keep(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())

    logger, handler = absl_logging.get_absl_logger(), Keep()
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def numbers_of(images):
    return (images.reshape(-1, 8 * 8 * 3).mean(-1) / 8).round().astype(int).tolist()


def trained(source, count, batch_size=4, first_example=0, **options):
    batches = data.train_dataset(
        source, "train", batch_size=batch_size, seed=0, first_example=first_example, **SETTINGS, **NO_CHANCE, **options
    )
    return numbers_of(np.concatenate([batch["image"] for batch in batches.take(count)]))


def test_next_readable_image_replaces_a_corrupt_one(folder, messages, tmp_path):
    source = folder({3, 9, 12})
    found = trained(source, 10, max_corrupt_fraction=0.2)
    order = [int(source.describe_example("train", number, seed=0, shuffle_buffer=1)[-6:-4]) for number in range(41)]
    expected = []
    for place in range(40):
        while order[place] in {3, 9, 12}:
            place += 1
        expected.append(order[place])
    assert found == expected
    # Pipelines read ahead: at least the broken ones of the two epochs were messages, by their paths.
    for number in (3, 9, 12):
        assert sum(f"{tmp_path}/train/a/{number:02d}.jpg" in line for line in messages) >= 2


def test_resuming_among_corrupt_images(folder):
    source = folder({0, 1, 2, 3, 11})
    straight = trained(source, 10, max_corrupt_fraction=0.5)
    for step in range(1, 10):
        assert trained(source, 10 - step, first_example=4 * step, max_corrupt_fraction=0.5) == straight[4 * step :]


def test_too_many_corrupt_images_raise(folder):
    source = folder({5, 6})
    assert trained(source, 10, max_corrupt_fraction=0.1)
    with pytest.raises(DataError) as error, data.reraise_data_errors():
        trained(source, 10, max_corrupt_fraction=0.09)
    message = str(error.value)
    assert "\n" not in message
    for part in ("2 images of train of folder:", "/train/a/0", "allows 1 of 20", "config.data.max_corrupt_fraction"):
        assert part in message, message


def test_one_corrupt_image_of_a_small_dataset_exceeds_the_default(folder):
    source = folder({5})
    with pytest.raises(DataError, match="allows 0 of 20"), data.reraise_data_errors():
        trained(source, 5)


@pytest.mark.parametrize("numbers", [{7}, {0, 1}, {18, 19}, {4, 5, 6, 7, 8, 9}])
@pytest.mark.parametrize("shards", [1, 3])
def test_evaluation_skips_corrupt_images(folder, messages, numbers, shards):
    source = folder(numbers)
    found, masks = [], 0
    for index in range(shards):
        batches = list(
            data.eval_dataset(
                source, "train", batch_size=3, shard=(index, shards), max_corrupt_fraction=0.5, **SETTINGS
            )
        )
        assert len(batches) == data.num_eval_batches(source, "train", 3, shards)
        for batch in batches:
            keep = batch["mask"].numpy() == 1
            found += numbers_of(batch["image"].numpy()[keep])
            masks += keep.sum()
    assert sorted(found) == sorted(set(range(20)) - numbers)
    assert masks == 20 - len(numbers)
    for number in numbers:
        assert sum(f"/train/a/{number:02d}.jpg" in line for line in messages) == 1


def test_too_many_corrupt_images_end_evaluation(folder):
    source = folder({7})
    with pytest.raises(DataError, match=r"07\.jpg"), data.reraise_data_errors():
        list(data.eval_dataset(source, "train", batch_size=3, max_corrupt_fraction=0.0, **SETTINGS))


def test_corrupt_image_reason_is_logged(folder, messages):
    trained(folder({0, 1}), 10, max_corrupt_fraction=0.5)
    assert "00.jpg (Input is empty.)" in {line.rpartition("/")[2] for line in messages}


def test_repeated_corrupt_image_counts_once(folder):
    source, augmentation = folder({5}), data.Augmentation(crop_area=None, flip=False, repeated_augmentation=2)
    batches = data.train_dataset(
        source, "train", batch_size=4, seed=0, max_corrupt_fraction=0.05, augmentation=augmentation, **SETTINGS
    )
    assert len(list(batches.take(9))) == 9  # as two, they would end the stream


def test_a_corrupt_image_is_logged_once_per_epoch(messages):
    counter = corrupt.CorruptImageCounter(
        "data", describe=str, read=lambda number: tf.data.Dataset.range(0), epoch_size=20, max_per_epoch=1
    )
    good = corrupt.NOT_CORRUPT
    numbers = [[5, good, 5], [good, 5, good], [25, 25, good]]
    images = tf.range(9.0)
    batches = tf.data.Dataset.from_tensor_slices({"image": tf.reshape(images, (3, 3)), "corrupt": numbers})
    found = list(corrupt.report_corrupt(batches, counter))
    assert all(set(batch) == {"image"} for batch in found)
    np.testing.assert_array_equal(tf.concat([batch["image"] for batch in found], 0), images)
    assert messages == ["skipped a corrupt image of data: 5", "skipped a corrupt image of data: 25"]


def test_long_gap_is_filled_by_one_image():
    def prepare(place):
        with tf.control_dependencies([tf.debugging.Assert((place < 3) | (place > 24), ["broken"])]):
            return place, {"value": tf.stack([place, -place])}

    batches = list(corrupt.replace_corrupt(tf.data.Dataset.range(30).map(prepare), 5).as_numpy_iterator())
    assert [len(batch["value"]) for batch in batches] == [5] * 6
    places = [0, 1, 2, *[25] * 22, 25, 26, 27, 28, 29]
    assert np.concatenate([batch["value"] for batch in batches]).tolist() == [[place, -place] for place in places]
    replaced = [number if 3 <= number < 25 else corrupt.NOT_CORRUPT for number in range(30)]
    assert np.concatenate([batch["corrupt"] for batch in batches]).tolist() == replaced


def test_training_starts_with_one_readable_image(folder):
    source = folder(set(range(19)))
    whole = next(place for place in range(20) if source.describe_ordered_example("train", place).endswith("19.jpg"))
    data.check_images(source, f"train[{max(whole - 7, 0)}:{max(whole + 1, 8)}]")


def test_training_does_not_start_without_readable_images(folder, tmp_path):
    with pytest.raises(DataError) as error:
        data.check_images(folder(set(range(20))), "train")
    message = str(error.value)
    assert "\n" not in message
    for part in ("none of 8 sampled images of train of folder:", f"{tmp_path}/train/a/"):
        assert part in message, message


def test_uncounted_corrupt_images_are_replaced(folder, messages):
    source = folder({5})
    assert 5 not in trained(source, 10, count_corrupt=False)
    assert not messages


def test_max_corrupt_images_per_shard():
    assert corrupt.max_corrupt_images(0.001, 1_281_167, 1) == 1281
    assert corrupt.max_corrupt_images(0.001, 999, 1) == 0
    assert corrupt.max_corrupt_images(0.1, 30, 1) == 3
    # 160 and six times 12.65 more.
    assert corrupt.max_corrupt_images(0.001, 1_281_167, 8) == 236


def unusual():
    rng = np.random.default_rng(0)
    deep = io.BytesIO()
    Image.fromarray(rng.integers(0, 65536, (9, 9), np.uint16)).save(deep, "PNG")
    cmyk = io.BytesIO()
    Image.fromarray(np.full((20, 24, 4), (0, 255, 255, 0), np.uint8), "CMYK").save(cmyk, "JPEG", quality=100)
    return {
        "gray": (jpeg(77, mode="L"), 77),
        "cmyk": (cmyk.getvalue(), None),
        "16_bit": (deep.getvalue(), None),
        "one_pixel": (jpeg((8, 8, 8), (1, 1), quality=100), 8),
        "one_pixel_png": (jpeg((8, 9, 10), (1, 1), kind="PNG"), 9),
        "wide": (jpeg((50, 50, 50), (10_000, 3), quality=100), 50),
        "high": (jpeg((50, 50, 50), (2, 10_000), quality=100), 50),
        "palette": (jpeg(3, mode="P", kind="PNG"), None),
    }


@pytest.mark.parametrize("name", unusual())
def test_unusual_images_are_readable(tmp_path, messages, name):
    content, gray = unusual()[name]
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "train" / "a" / "x.jpg").write_bytes(content)
    source = data.open_source(f"folder:{tmp_path}")
    trained_on = next(iter(data.train_dataset(source, "train", batch_size=2, seed=0, **SETTINGS)))["image"]
    evaluated = next(iter(data.eval_dataset(source, "train", batch_size=1, **SETTINGS)))
    assert np.isfinite(trained_on).all()
    assert evaluated["mask"].numpy() == 1
    if gray is not None:
        np.testing.assert_allclose(trained_on.numpy().mean(), gray, atol=2)
        np.testing.assert_allclose(evaluated["image"].numpy().mean(), gray, atol=2)
    assert not messages


def test_other_errors_pass_through():
    with pytest.raises(tf.errors.InvalidArgumentError), data.reraise_data_errors():
        raise tf.errors.InvalidArgumentError(None, None, "something else")
