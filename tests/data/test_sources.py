"""Kinds of sources, their splits and slices, and errors."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from convzoo import data
from convzoo.errors import DataError


def _examples(source, split):
    return list(source.dataset(split).as_numpy_iterator())


def assert_one_line(error, *parts):
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


def test_digits_are_those_of_scikit_learn(digits):
    source = digits
    assert source.spec == "digits"
    assert source.splits == {"train": 1438, "test": 359}
    assert source.num_classes == 10
    assert source.class_names == [str(i) for i in range(10)]
    images, labels = load_digits(return_X_y=True)
    expected = np.round(images.reshape(-1, 8, 8, 1) * 255 / 16)
    held_out = np.arange(1797) % 5 == 4
    for split, chosen in (("train", ~held_out), ("test", held_out)):
        examples = _examples(source, split)
        assert examples[0]["image"].dtype == np.uint8
        assert examples[0]["label"].dtype == np.int64
        np.testing.assert_array_equal([e["image"] for e in examples], expected[chosen])
        np.testing.assert_array_equal([e["label"] for e in examples], labels[chosen])


def test_digits_use_their_whole_range(digits):
    images = np.stack([e["image"] for e in _examples(digits, "train")])
    assert images.min() == 0
    assert images.max() == 255


def test_halves_of_digits(digits):
    source = data.open_source("digits:classes=3-4,halves=5")
    assert source.num_classes == 2 * 2 * 2 * 8
    assert source.splits == {"train": 320, "test": 128}
    for split, examples in (("train", 5), ("test", 2)):
        originals = {digit: [e["image"] for e in _examples(digits, split) if e["label"] == digit] for digit in (3, 4)}
        made = _examples(source, split)
        assert [e["label"] for e in made] == list(np.repeat(range(64), examples))
        for example in made:
            name, *orientation = source.class_names[example["label"]].split(", ")
            first, relation, second = name.split()
            image = example["image"]
            if "mirrored" in orientation:
                image = image[:, ::-1]
            turns = [int(words.split()[-1]) // 90 for words in orientation if words.startswith("rotated")]
            image = np.rot90(image, -sum(turns))
            axis = 0 if relation == "above" else 1
            for part, digit in enumerate((first, second)):
                half = np.split(image, 2, axis)[part]
                assert any(np.array_equal(half, np.split(o, 2, axis)[part]) for o in originals[int(digit)])


def test_digits_with_data_dir(tmp_path):
    data.open_source("digits", data_dir=str(tmp_path / "sets"))
    assert (tmp_path / "sets" / "digits").is_dir()


def test_digits_in_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError) as error:
        data.open_source("digits", data_dir=str(tmp_path / "file" / "below"))
    assert_one_line(error, "'digits'", str(tmp_path / "file" / "below"), "TFDS_DATA_DIR")


def test_fake():
    source = data.open_source("fake:classes=3,size=5,examples=8")
    assert source.splits == {"train": 8, "test": 8}
    assert source.class_names == ["0", "1", "2"]
    train, test, again = (_examples(source, split) for split in ("train", "test", "train"))
    for examples in (train, test):
        assert [e["label"] for e in examples] == [0, 1, 2, 0, 1, 2, 0, 1]
    images = np.stack([e["image"] for e in train + test])
    assert images.shape == (16, 5, 5, 3)
    assert images.dtype == np.uint8
    assert len({image.tobytes() for image in images}) == 16
    np.testing.assert_array_equal([e["image"] for e in again], images[:8])
    assert 100 < images.mean() < 155  # uniform over 0..255
    assert images.max() > 245
    assert images.min() < 10


def test_fake_without_options_is_the_size_of_imagenet():
    source = data.open_source("fake")
    assert source.num_classes == 1000
    assert next(source.dataset("train").as_numpy_iterator())["image"].shape == (224, 224, 3)


@pytest.mark.parametrize("spec", ["fake:size=4,examples=50", "idx", "folder"])
def test_slices_are_those_of_tfds(spec, idx_folder, image_folder):
    spec = {"idx": f"idx:{idx_folder}", "folder": f"folder:{image_folder}"}.get(spec, spec)
    source = data.open_source(spec)
    train, test = (_examples(source, split) for split in ("train", "test"))
    for split, expected in {
        "train[:50%]": train[: round(len(train) / 2)],
        "train[3:-2]": train[3:-2],
        "test[-2:]+train[1:4]": test[-2:] + train[1:4],
        "train+test": train + test,
    }.items():
        found = _examples(source, split)
        assert source.num_examples(split) == len(found) == len(expected), split
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a["image"], b["image"])
            assert a["label"] == b["label"]


@pytest.mark.parametrize("split", ["validation", "train[5:5]", "train[abc]", "train[:9999999]", "", "train["])
def test_splits_that_cannot_be_read(split, idx_folder):
    source = data.open_source(f"idx:{idx_folder}")
    for call in (source.num_examples, source.dataset):
        with pytest.raises(DataError) as error:
            call(split)
        assert_one_line(error, repr(split), "train (23 examples)", "test (7 examples)")


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("", ["'' is unknown", "digits, fake, folder, glyphs, idx, tfds"]),
        ("mnist", ["'mnist' is unknown", "digits, fake, folder, glyphs, idx, tfds"]),
        ("digits:8", ["is not classes=FIRST-LAST"]),
        ("digits:classes=6-0", ["is not classes=FIRST-LAST"]),
        ("digits:classes=0-6,halves=0", ["halves=N, N from 1 to 999"]),
        ("fake:color=1", ["'color=1'", "classes=N"]),
        ("fake:size=0", ["'size=0'"]),
        ("fake:size", ["'size'"]),
        ("idx:/not/there", ["'/not/there' does not exist"]),
        ("folder:/not/there", ["'/not/there' does not exist"]),
        ("tfds:", ["has no dataset name"]),
    ],
)
def test_strings_that_name_no_source(spec, parts):
    with pytest.raises(DataError) as error:
        data.open_source(spec)
    assert_one_line(error, repr(spec), *parts)
