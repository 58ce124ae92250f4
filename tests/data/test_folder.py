"""Images in class folders."""

import os

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from convzoo import data
from convzoo.errors import DataError


def _of(source, split):
    """{bytes of an image: its class name}"""
    return {e["image"]: source.class_names[e["label"]] for e in source.dataset(split).as_numpy_iterator()}


def test_reads_existing_files(image_folder):
    source = data.open_source(f"folder:{image_folder}")
    assert source.splits == {"test": 5, "train": 12}
    assert source.class_names == ["cat", "dog", "eel"]
    for split in ("train", "test"):
        expected = {}
        for name in sorted(os.listdir(image_folder / split)):
            for path in (image_folder / split / name).iterdir():
                if path.suffix != ".txt":
                    expected[path.read_bytes()] = name
        assert _of(source, split) == expected


def test_names_are_the_files(image_folder):
    source = data.open_source(f"folder:{image_folder}")
    names = source.example_names("test+train[:3]")
    assert len(names) == source.num_examples("test+train[:3]")
    for name, example in zip(names, source.dataset("test+train[:3]"), strict=True):
        assert tf.io.read_file(name) == example["image"]
    assert data.RelabeledSource(source, [*source.class_names, "fox"]).example_names("test+train[:3]") == names
    assert data.open_source("fake:examples=3").example_names("test") is None


def test_agrees_with_image_folder(image_folder, tmp_path):
    (tmp_path / "train").symlink_to(image_folder / "train")  # ImageFolder takes hidden folders for splits
    (tmp_path / "test").symlink_to(image_folder / "test")
    theirs = tfds.ImageFolder(str(tmp_path))
    ours = data.open_source(f"folder:{tmp_path}")
    assert ours.class_names == theirs.info.features["label"].names
    assert ours.splits == {name: info.num_examples for name, info in theirs.info.splits.items()}
    examples = theirs.as_dataset("train", decoders={"image": tfds.decode.SkipDecoding()}).as_numpy_iterator()
    assert _of(ours, "train") == {e["image"]: ours.class_names[e["label"]] for e in examples}


def test_a_slice_mixes_classes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for i in range(40):
            (tmp_path / "train" / name / f"{i}.png").write_bytes(
                tf.io.encode_png(tf.zeros([1, 1, 1], tf.uint8)).numpy() + name.encode()
            )
    source = data.open_source(f"folder:{tmp_path}")
    assert {e["label"] for e in source.dataset("train[:25%]").as_numpy_iterator()} == {0, 1}
    order = [e["label"] for e in source.dataset("train").as_numpy_iterator()]
    again = data.open_source(f"folder:{tmp_path}").dataset("train").as_numpy_iterator()
    assert [e["label"] for e in again] == order


def test_images_of_all_kinds_pass_the_pipelines(image_folder, settings):
    source = data.open_source(f"folder:{image_folder}")
    train = data.train_dataset(source, "train", batch_size=12, seed=0, **settings)
    assert next(iter(train))["image"].shape == (12, 6, 5, 3)
    evaluation = list(data.eval_dataset(source, "test", batch_size=5, **settings))
    assert [int(n) for n in sorted(evaluation[0]["label"])] == [0, 0, 0, 1, 1]


def test_without_splits(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"'cat' has images.*SPLIT/CLASS") as error:
        data.open_source(f"folder:{tmp_path}")
    assert "\n" not in str(error.value)


def test_without_images(tmp_path):
    (tmp_path / "train" / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match=r"no images .*SPLIT/CLASS"):
        data.open_source(f"folder:{tmp_path}")


def test_an_empty_split(image_folder, tmp_path):
    (tmp_path / "train").symlink_to(image_folder / "train")
    (tmp_path / "val" / "cat").mkdir(parents=True)
    source = data.open_source(f"folder:{tmp_path}")
    assert source.splits == {"train": 12, "val": 0}
    with pytest.raises(DataError, match=r"split 'val' .* has no examples; .*train \(12 examples\)"):
        source.dataset("val")


def _fill(folder, names, content=b"image"):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(content + name.encode())


def test_an_image_stays_in_its_slice_when_others_are_added(tmp_path):
    for name in ("cat", "dog"):
        _fill(tmp_path / "train" / name, [f"{i}.jpg" for i in range(0, 400, 2)], name.encode())

    def images(split):
        return {
            example["image"] for example in data.open_source(f"folder:{tmp_path}").dataset(split).as_numpy_iterator()
        }

    before = images("train[:90%]"), images("train[90%:]")
    assert 20 < len(before[1]) < 60
    assert not before[0] & before[1]
    for name in ("cat", "dog"):
        _fill(tmp_path / "train" / name, [f"{i}.jpg" for i in range(1, 400, 2)], name.encode())
    after = images("train[:90%]"), images("train[90%:]")
    assert before[0] < after[0]
    assert before[1] < after[1]
    assert len(after[0]) + len(after[1]) == 800
    source = data.open_source(f"folder:{tmp_path}")
    assert source.num_examples("train[:90%]+train[95%:]") == len(after[0]) + source.num_examples("train[95%:]")
    assert source.num_examples("train[:100]") == 100
    _fill(tmp_path / "test" / "cat", ["0.jpg", "1.jpg"])
    _fill(tmp_path / "test" / "dog", ["0.jpg", "1.jpg"])
    source = data.open_source(f"folder:{tmp_path}")
    assert source.num_examples("train[:90%] + test") == len(after[0]) + 4
    assert source.num_examples("all") == 804


def test_says_what_was_ignored_and_which_classes_cannot_be_learned(tmp_path):
    _fill(tmp_path / "train" / "Cat", ["1.jpg", "2.webp", "3.bmp", "4.gif", "5.tiff", "6.TIFF", "notes", ".hidden.jpg"])
    _fill(tmp_path / "train" / "Cat" / "deeper", ["7.jpg"])
    _fill(tmp_path / "train", ["8.jpg"])
    _fill(tmp_path / "test" / "cat", ["1.jpg", "2.jpg"])
    _fill(tmp_path / "test" / "eel", ["1.jpg"])
    source = data.open_source(f"folder:{tmp_path}")
    counts, notes, warning = data.describe_splits(source, "train", "test")
    assert counts == "train has 4 images of 1 classes, test has 3 of 2"
    assert notes.startswith("ignored in train: 2 .tiff files, ")
    for kind in ("1 files without extension", "1 outside class folders", "1 folders inside class folders"):
        assert kind in notes
    assert "2 of 3 classes have no image in train" in warning
    assert "'cat' (did you mean 'Cat'?), 'eel'" in warning
    relabeled = data.RelabeledSource(source, ["eel", "cat", "dog", "Cat"])
    assert relabeled.label_counts("test").tolist() == [1, 2, 0, 0]


def test_special_files_and_folders_with_names_of_images_are_no_images(tmp_path):
    _fill(tmp_path / "train" / "cat", ["1.png", "2.png"])
    os.mkfifo(tmp_path / "train" / "cat" / "3.png")
    (tmp_path / "train" / "cat" / "4.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "train" / "cat" / "5.png").mkdir()
    source = data.open_source(f"folder:{tmp_path}")
    assert source.splits == {"train": 2}
    assert "2 broken links and special files" in source.notes[0]
    assert "1 folders inside class folders" in source.notes[0]
