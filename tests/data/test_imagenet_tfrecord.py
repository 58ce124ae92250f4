"""TFRecords in the classic ImageNet layout: file names, record counts and errors."""

import json
import os

import numpy as np
import pytest
import tensorflow as tf

from convzoo import data
from convzoo.data import imagenet_tfrecord
from convzoo.errors import DataError

COUNTS = {"train": (5, 0, 11, 3, 8), "validation": (4,)}


@pytest.fixture
def folder(tmp_path, write_records):
    return write_records(tmp_path / "imagenet", COUNTS)


@pytest.fixture
def opened(tmp_path):
    """opened(rest): the source; its counts are kept apart from those of other tests."""
    return lambda rest: data.open_source(f"tfrecord:{rest}", data_dir=str(tmp_path / "counts"))


def _number(example):
    high, low = data.decode_image(example["image"]).numpy()[0, :, 0].astype(int)
    return high * 256 + low


def test_reads_images_and_labels(folder, opened):
    source = opened(folder)
    assert source.splits == {"train": 27, "validation": 4}
    assert source.class_names == [str(label) for label in range(1, 1001)]
    examples = list(source.dataset("train").as_numpy_iterator())
    assert set(examples[0]) == {"image", "label"}
    assert [_number(e) for e in examples] == list(range(27))
    assert [int(e["label"]) for e in examples] == [i % 3 for i in range(27)]
    assert examples[0]["label"].dtype == np.int64


def test_batches_of_two_epochs(folder, opened, settings):
    chance = data.Augmentation(crop_area=None, flip=False)
    batches = data.train_dataset(
        opened(folder), "train[:18]", batch_size=9, seed=0, augmentation=chance, **{**settings, "image_size": (1, 2)}
    )
    numbers = np.concatenate([batch["image"].numpy()[:, 0, 1, 0] for batch in batches.take(4)]).astype(int)
    for epoch in numbers.reshape(2, 18):
        assert sorted(epoch) == list(range(18))
    evaluation = data.eval_dataset(
        opened(folder), "validation", batch_size=3, crop_fraction=1.0, **{**settings, "image_size": (1, 2)}
    )
    assert [batch["mask"].numpy().tolist() for batch in evaluation] == [[1, 1, 1], [1, 0, 0]]


def test_a_pattern_takes_files(folder, opened):
    assert opened(f"{folder}/train-*").splits == {"train": 27}
    assert opened(f"{folder}/*-00000-of-*").splits == {"train": 5, "validation": 4}
    source = opened(f"{folder}/train-0000[2-3]-of-00005")
    assert [_number(e) for e in source.dataset("train").as_numpy_iterator()] == list(range(5, 19))
    assert opened(f"{folder}/train-00003-of-00005").splits == {"train": 3}
    assert opened(f"{folder}/").splits == opened(folder).splits


def test_other_files_are_left_alone(folder, opened):
    for name in ("train-00000-of-00005.tmp", "notes.txt", "train-1-of-2"):
        (folder / name).write_text("no TFRecord")
    assert opened(folder).splits == {"train": 27, "validation": 4}


def test_names_of_classes(folder, opened):
    (folder / "labels.txt").write_text("tench\ngoldfish\ngreat white shark\n\n")
    assert opened(folder).class_names == ["tench", "goldfish", "great white shark"]
    (folder / "labels.txt").write_text("tench\n\nshark\n")
    with pytest.raises(DataError, match=r"labels\.txt' has an empty line") as error:
        opened(folder)
    assert "\n" not in str(error.value)


def test_a_label_beyond_the_classes_fails_alone(folder, opened):
    (folder / "labels.txt").write_text("one\ntwo\n")
    source = opened(f"{folder}/train-*")
    with pytest.raises(tf.errors.InvalidArgumentError, match="image/class/label is not from 1 to 2"):
        list(source.dataset("train"))
    readable = [_number(e) for e in source.dataset("train").ignore_errors().as_numpy_iterator()]
    assert readable == [i for i in range(27) if i % 3 < 2]


def test_names_of_images(folder, opened):
    """The file name that a record states, else the record."""
    path = folder / "validation-00000-of-00001"
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
    example = tf.train.Example.FromString(records[1])
    example.features.feature["image/filename"].bytes_list.value.append(b"ILSVRC2012_val_00000003.JPEG")
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in (records[0], example.SerializeToString(), b"damaged", records[3]):
            writer.write(record)
    source = opened(folder)
    stand_ins = [f"{path.name}, record {index}" for index in range(4)]
    assert source.example_names("validation") == [stand_ins[0], "ILSVRC2012_val_00000003.JPEG", *stand_ins[2:]]
    order = [_number(example) for example in source.dataset("train").as_numpy_iterator()]
    records = [f"train-{file:05d}-of-00005, record {row}" for file, n in enumerate(COUNTS["train"]) for row in range(n)]
    assert source.example_names("train") == [records[number] for number in order]


def test_corrupt_record_is_located(folder, opened):
    source = opened(folder)
    assert source.describe_ordered_example("train", 6) == f"{folder}/train-00002-of-00005, record 1"
    number, example = next(
        source.shuffled("train", seed=1, first_example=30, shard=(0, 1), shuffle_buffer=9).__iter__()
    )
    file = int(np.searchsorted(np.cumsum(COUNTS["train"]), _number(example), side="right"))
    record = _number(example) - sum(COUNTS["train"][:file])
    name = source.describe_example("train", int(number), seed=1, shuffle_buffer=9)
    assert name == f"{folder}/train-{file:05d}-of-00005, record {record}"


def test_counts_are_kept_until_a_file_changes(folder, opened, tmp_path, monkeypatch, write_records):
    counted, real = [], imagenet_tfrecord._count
    monkeypatch.setattr(imagenet_tfrecord, "_count", lambda path: counted.append(os.path.basename(path)) or real(path))
    opened(f"{folder}/train-*")
    assert len(counted) == 5
    opened(folder)
    assert counted[5:] == ["validation-00000-of-00001"]
    write_records(folder, {"validation": (6,)})
    assert opened(folder).splits == {"train": 27, "validation": 6}
    assert counted[6:] == ["validation-00000-of-00001"]
    os.utime(folder / "train-00000-of-00005", ns=(1, 1))
    opened(folder)
    assert counted[7:] == ["train-00000-of-00005"]
    assert os.listdir(tmp_path / "counts") == ["tfrecord_counts.json"]
    known = json.loads((tmp_path / "counts" / "tfrecord_counts.json").read_text())
    assert {key: value[-1] for key, value in known.items()} == {
        **{str(folder / f"train-{i:05d}-of-00005"): n for i, n in enumerate(COUNTS["train"])},
        str(folder / "validation-00000-of-00001"): 6,
    }


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"x": 1}'])
def test_counts_that_cannot_be_read_are_made_again(folder, opened, tmp_path, content):
    (tmp_path / "counts").mkdir()
    cache = tmp_path / "counts" / "tfrecord_counts.json"
    cache.write_text(content)
    assert opened(folder).splits == {"train": 27, "validation": 4}
    assert len(json.loads(cache.read_text())) >= 6


def test_unwritable_counts_are_ignored(folder, tmp_path):
    (tmp_path / "file").write_text("")
    for data_dir in (tmp_path / "file", tmp_path / "file" / "below"):
        assert data.open_source(f"tfrecord:{folder}", data_dir=str(data_dir)).splits["train"] == 27
    assert (tmp_path / "file").read_text() == ""


def test_counts_are_kept_beside_the_data_sets_of_tfds(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TFDS_DATA_DIR")
    data.open_source(f"tfrecord:{folder}")
    assert (tmp_path / "home" / "tensorflow_datasets" / "tfrecord_counts.json").is_file()


def test_files_behind_a_scheme_are_read_to_count_them(folder, opened):
    source = opened(f"file://{folder}/train-*")
    assert source.splits == {"train": 27}
    assert _number(next(source.dataset("train").as_numpy_iterator())) == 0


@pytest.mark.parametrize("prefix", ["", "file://"])
@pytest.mark.parametrize("damage", [lambda content: content[:-5], lambda content: b"no TFRecord at all, but words"])
def test_damaged_tfrecord_files(folder, opened, prefix, damage):
    path = folder / "train-00002-of-00005"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError) as error:
        opened(f"{prefix}{folder}")
    assert "\n" not in str(error.value)
    assert f"cannot read TFRecord file '{prefix}{path}'" in str(error.value)


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_files_that_cannot_be_read(folder, opened, prefix):
    path = folder / "train-00002-of-00005"
    os.remove(path)
    path.symlink_to(folder / "gone")
    with pytest.raises(DataError) as error:
        opened(f"{prefix}{folder}")
    assert "\n" not in str(error.value)
    assert f"cannot read TFRecord file '{prefix}{path}'" in str(error.value)


def test_names_that_cannot_be_read(folder, opened):
    (folder / "labels.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(DataError, match=r"labels.txt"):
        opened(folder)


@pytest.mark.parametrize(
    ("rest", "parts"),
    [
        ("", ["folder '' does not exist"]),
        ("/not/there", ["folder '/not/there' does not exist"]),
        ("/not/there/train-*", ["'/not/there' has no matching TFRecord files", "SPLIT-00000-of-01024"]),
        ("{folder}/nothing", ["nothing' does not exist"]),
        ("{folder}/test-*", ["has no matching TFRecord files"]),
        ("{folder}/labels.txt", ["has no matching TFRecord files"]),
        ("{folder}/empty", ["empty' has no matching TFRecord files"]),
        ("{folder}/gaps", ["2 of 4 files", "'train-00001-of-00004'"]),
        ("{folder}/gaps/train-0000[2-3]*", ["1 of 2 files", "'train-00003-of-00004'"]),
        ("{folder}/two", ["'train' has files of 1 and of 2"]),
    ],
)
def test_invalid_arguments(folder, opened, write_records, rest, parts):
    (folder / "labels.txt").write_text("one\ntwo\nthree\n")
    (folder / "empty").mkdir()
    write_records(folder / "gaps", {"train": (1, 1, 1, 1)})
    for index in (1, 3):
        os.remove(folder / "gaps" / f"train-0000{index}-of-00004")
    write_records(folder / "two", {"train": (1, 1)})
    write_records(folder / "two", {"train": (1,)})
    rest = rest.format(folder=folder)
    with pytest.raises(DataError) as error:
        opened(rest)
    assert "\n" not in str(error.value)
    for part in (f"source 'tfrecord:{rest}'", *parts):
        assert part in str(error.value), error.value
