"""Pairs for verification: LFW's format, generated pairs, splits, shards and bad files."""

import numpy as np
import pytest
import tensorflow as tf

from convzoo import data
from convzoo.errors import DataError

PLAIN = {"image_size": (8, 8), "crop_fraction": None, "mean": (0.0,) * 3, "std": (1.0,) * 3}
SETTINGS = {**PLAIN, "crop_fraction": 1.0, "batch_size": 4}


@pytest.fixture
def lfw(tmp_path):
    """write(text): pairs of images of three people, two or three each, of gray 10 * person + number."""
    for person, count in (("Ann_Lee", 3), ("Bo", 2), ("Cy", 2)):
        (tmp_path / "images" / person).mkdir(parents=True)
        for number in range(1, count + 1):
            gray = 10 * "ABC".index(person[0]) + number
            png = tf.io.encode_png(np.full((8, 8, 3), gray, np.uint8)).numpy()
            suffix = ".PNG" if person == "Bo" else ".png"
            (tmp_path / "images" / person / f"{person}_{number:04d}{suffix}").write_bytes(png)

    def write(text):
        (tmp_path / "pairs.txt").write_text(text)
        return data.open_paired_source(f"pairs:{tmp_path}/images,{tmp_path}/pairs.txt")

    return write


TWO_FOLDS = "2\t1\nAnn_Lee\t1\t3\nAnn_Lee\t2\tBo\t1\nBo\t1\t2\nBo\t2\tCy\t1\n"


def test_pairs_of_a_file(lfw):
    source = lfw(TWO_FOLDS)
    assert source.splits == {"test": 6}  # each image once
    assert source.class_names == ["Ann_Lee", "Bo", "Cy"]
    pairs = source.pairs("test")
    assert pairs.is_same.tolist() == [True, False, True, False]
    assert pairs.folds.tolist() == [0, 0, 1, 1]
    grays = {}
    for batch in data.eval_dataset(source, "test", **SETTINGS):
        for image, number, mask in zip(batch["image"], batch["label"], batch["mask"], strict=True):
            if mask:
                grays[int(number)] = round(float(image[0, 0, 0]))
    found = [(grays[a], grays[b]) for a, b in zip(pairs.first, pairs.second, strict=True)]
    assert found == [(1, 3), (2, 11), (11, 12), (12, 21)]
    people = source.identities("test")
    assert [grays[number] // 10 for number in range(6)] == people.tolist()
    # Pairs of a part of the images have their numbers there.
    part = source.pairs("test[2:]")
    assert [(grays[a + 2], grays[b + 2]) for a, b in zip(part.first, part.second, strict=True)] == found[1:]


def test_one_fold_without_a_number_of_folds(lfw):
    source = lfw("\ufeff1\nAnn_Lee 1 3\nAnn_Lee 2 Bo 1\n")
    assert source.pairs("test").folds.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1"),
        ("pairs\n", "line 1 of .* is 'pairs'"),
        ("0 1\n", "line 1"),
        ("1 2\nAnn_Lee 1 3\nAnn_Lee 2 Bo 1\n", "has 2 pairs, but its first line says 1 times 2 times 2"),
        ("1 1\nAnn_Lee 1\nAnn_Lee 2 Bo 1\n", "line 2 of .* is 'Ann_Lee 1', not NAME NUMBER OTHER_NUMBER"),
        ("1 1\nAnn_Lee 1 3\nAnn_Lee 2 Bo x\n", "line 3 of .* not NAME NUMBER OTHER_NAME NUMBER"),
        ("1 1\nAnn_Lee 1 3\nAnn_Lee 2 Ann_Lee 1\n", "line 3"),
        ("1 1\nAnn_Lee 1 1\nAnn_Lee 2 Bo 1\n", "line 2 .* not NAME NUMBER OTHER_NUMBER"),
        (f"1 1\nAnn_Lee 1 {'9' * 5000}\nAnn_Lee 2 Bo 1\n", "line 2"),
    ],
)
def test_invalid_files(lfw, text, message):
    with pytest.raises(DataError, match=message) as error:
        lfw(text)
    assert "\n" not in str(error.value)


def test_missing_files(lfw, tmp_path):
    lfw(TWO_FOLDS)
    images, file = tmp_path / "images", tmp_path / "pairs.txt"
    for spec, message in (
        (f"pairs:{images}", "needs a folder and a file"),
        (f"pairs:{tmp_path}/no,{file}", "does not exist"),
        (f"pairs:{images},{tmp_path}/no.txt", "cannot read"),
        ("nothing:x", "is unknown"),
    ):
        with pytest.raises(DataError, match=message) as error:
            data.open_paired_source(spec)
        assert "\n" not in str(error.value)
    (images / "Bo" / "Bo_0002.PNG").unlink()
    source = data.open_paired_source(f"pairs:{images},{file}")
    assert source.notes == [f"1 of 6 images do not exist in {images}"]
    with pytest.raises(DataError, match="Bo_0002"), data.reraise_data_errors():
        list(data.eval_dataset(source, "test", **SETTINGS))
    batches = list(data.eval_dataset(source, "test", max_corrupt_fraction=0.5, **SETTINGS))
    assert sum(batch["mask"].numpy().sum() for batch in batches) == 5


def test_generated_pairs():
    source = data.open_paired_source("digits", num_pairs=400, num_folds=4)
    pairs, identities = source.pairs("test"), source.identities("test")
    np.testing.assert_array_equal(identities[pairs.first] == identities[pairs.second], pairs.is_same)
    assert np.count_nonzero(pairs.is_same) == 200
    assert np.all(pairs.first < pairs.second)
    assert len({*zip(pairs.first, pairs.second, strict=True)}) == 400
    for kind in (True, False):
        assert np.bincount(pairs.folds[pairs.is_same == kind]).tolist() == [50] * 4
    again = data.open_paired_source("digits", num_pairs=400, num_folds=4).pairs("test")
    assert all(map(np.array_equal, pairs, again))
    other = data.open_paired_source("digits", num_pairs=400, seed=1).pairs("test")
    assert not np.array_equal(pairs.first, other.first)
    # All pairs of one identity of a small split, and as many of two.
    few = data.open_paired_source("fake:classes=3,size=8,examples=9").pairs("test")
    assert (np.count_nonzero(few.is_same), np.count_nonzero(~few.is_same)) == (9, 9)


def test_images_have_numbers_in_evaluation_and_identities_in_training():
    source = data.open_paired_source("fake:classes=3,size=8,examples=9")
    shards = [list(source.ordered("test[2:]", (index, 2)).as_numpy_iterator()) for index in range(2)]
    assert [[int(example["label"]) for example in shard] for shard in shards] == [[0, 2, 4, 6], [1, 3, 5]]
    (example,) = source.read_ordered_example("test", 4)
    assert int(example["label"]) == 4
    batch = next(
        iter(
            data.train_dataset(
                source, "train", seed=0, batch_size=9, image_size=(8, 8), mean=(0.0,) * 3, std=(1.0,) * 3
            )
        )
    )
    assert sorted(batch["label"].numpy().tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_a_split_with_an_image_twice():
    with pytest.raises(DataError, match="images twice"):
        data.open_paired_source("digits").pairs("test+test[:5]")


@pytest.mark.parametrize("spec", ["fake:classes=1,size=8,examples=9", "fake:classes=9,size=8,examples=9"])
def test_identities_without_pairs(spec):
    with pytest.raises(DataError, match="both kinds are needed"):
        data.open_paired_source(spec).pairs("test")
