"""Data sets of TensorFlow Datasets: prepared here, in files, by builders of the test."""

import os
import time

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from etils import epath

from convzoo import data
from convzoo.errors import DataError


class _Images(tfds.core.GeneratorBasedBuilder):
    """What the builders of this file share; TFDS must not look for their code in a package."""

    VERSION = tfds.core.Version("1.0.0")
    code_path = epath.Path(__file__)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(40), "test": self._generate_examples(9)}


class ConvzooTestJpegs(_Images):
    """Images of several sizes as JPEG, under keys of their own, beside something that is not read."""

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "photo": tfds.features.Image(encoding_format="jpeg"),
                    "kind": tfds.features.ClassLabel(names=["smooth", "rough"]),
                    "file_name": tfds.features.Text(),
                }
            ),
            supervised_keys=("photo", "kind"),
        )

    def _generate_examples(self, count):
        rng = np.random.default_rng(count)
        for i in range(count):
            yield i, {"photo": rng.integers(0, 256, (10 + i, 30, 3), np.uint8), "kind": i % 2, "file_name": f"{i}.jpg"}


class ConvzooTestFiles(_Images):
    """So many images of one pixel that the order of their files shows."""

    ordered = False

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(1, 1, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(num_classes=250),
                }
            ),
            disable_shuffling=self.ordered,
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(250), "test": self._generate_examples(90)}

    def _generate_examples(self, count):
        for i in range(count):
            yield i, {"image": np.full((1, 1, 1), i, np.uint8), "label": i}


class ConvzooTestOrderedFiles(ConvzooTestFiles):
    """The same, where TFDS leaves images in their order."""

    ordered = True


class ConvzooTestTexts(_Images):
    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({"text": tfds.features.Text()}))

    def _generate_examples(self, count):
        for i in range(count):
            yield i, {"text": str(i)}


class ConvzooTestPeople(_Images):
    """Images with the name of a person, which comes first, as in `lfw`."""

    def _info(self):
        features = {"label": tfds.features.Text(), "image": tfds.features.Image(shape=(4, 4, 3))}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=("label", "image")
        )

    def _generate_examples(self, count):
        for i in range(count):
            yield i, {"image": np.full((4, 4, 3), i % 3, np.uint8), "label": ("Cy", "Ann_Lee", "Bo")[i % 3]}


class ConvzooTestDownloads(_Images):
    """A dataset whose download URL is a closed port."""

    url_infos = {"http://127.0.0.1:9/images.zip": None}  # noqa: RUF012

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({"x": tfds.features.Text()}))

    def _split_generators(self, dl_manager):
        return dl_manager.download("http://127.0.0.1:9/images.zip")

    def _generate_examples(self):
        yield from ()


@pytest.fixture(scope="module")
def jpegs():
    return data.open_source("tfds:convzoo_test_jpegs:1.0.0")


def test_reads_a_data_set_of_tfds(jpegs):
    assert jpegs.splits == {"train": 40, "test": 9}
    assert jpegs.class_names == ["smooth", "rough"]
    assert jpegs.num_examples("train[:10%]+test") == 13
    assert jpegs.describe_ordered_example("train[5:]", 3).endswith(
        "convzoo_test_jpegs-train.tfrecord-00000-of-00001, record 8"
    )
    builder = tfds.builder("convzoo_test_jpegs", data_dir=os.environ["TFDS_DATA_DIR"])
    expected = list(builder.as_dataset("train").as_numpy_iterator())
    found = list(jpegs.dataset("train").as_numpy_iterator())
    assert set(found[0]) == {"image", "label"}
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(data.decode_image(ours["image"]), theirs["photo"])
        assert ours["label"] == theirs["kind"]
    assert jpegs.example_names("train[5:]") == [theirs["file_name"].decode() for theirs in expected[5:]]


@pytest.mark.parametrize("name", ["convzoo_test_files", "convzoo_test_ordered_files"])
def test_the_fixed_order_of_many_files_is_that_of_tfds(name):
    builder = tfds.builder(name, data_dir=os.environ["TFDS_DATA_DIR"])
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=7))
    assert builder.info.splits["train"].num_shards == 7
    source = data.open_source(f"tfds:{name}")
    for split in ("train", "train[10:-20]", "test[50%:]+train[:100]"):
        expected = [int(e["label"]) for e in builder.as_dataset(split).as_numpy_iterator()]
        found = list(source.dataset(split).as_numpy_iterator())
        assert [e["label"] for e in found] == expected
        assert [int(data.decode_image(e["image"])[0, 0, 0]) for e in found[:20]] == expected[:20]
        for index in range(3):
            shard = source.ordered(split, (index, 3)).as_numpy_iterator()
            assert [e["label"] for e in shard] == expected[index::3]


def test_a_data_set_that_lies_in_other_files(tmp_path):
    tfds.builder("convzoo_test_files", data_dir=str(tmp_path)).download_and_prepare()
    info = tmp_path / "convzoo_test_files" / "1.0.0" / "dataset_info.json"
    assert '"fileFormat": "tfrecord"' in info.read_text()
    info.write_text(info.read_text().replace('"fileFormat": "tfrecord"', '"fileFormat": "array_record"'))
    with pytest.raises(DataError, match=r"array_record files in .*convzoo_test_files.*tfrecord") as error:
        data.open_source("tfds:convzoo_test_files", data_dir=str(tmp_path))
    assert "\n" not in str(error.value)


def test_digits_have_a_name_in_tfds(digits):
    source = data.open_source("tfds:digits")
    assert source.splits == digits.splits
    pixels = data.decode_image(next(source.dataset("train").as_numpy_iterator())["image"])
    np.testing.assert_array_equal(pixels[..., :1], next(digits.dataset("train").as_numpy_iterator())["image"])


def _stream(source, batches, settings, **options):
    options = {"batch_size": 8, "seed": 1, "shuffle_buffer": 6, **options}
    dataset = data.train_dataset(source, "train[:50%]", **options, **settings)
    return [batch["image"].numpy() for batch in dataset.take(batches)]


@pytest.mark.parametrize("global_seed", [None, 0, 7])
def test_a_stream_resumes_and_ignores_the_global_seed(jpegs, settings, global_seed):
    straight = _stream(jpegs, 7, settings)  # 56 examples: over the ends of two epochs of 20
    if global_seed is not None:
        tf.random.set_seed(global_seed)
    for step in range(7):
        resumed = _stream(jpegs, 7 - step, settings, first_example=8 * step)
        np.testing.assert_array_equal(resumed, straight[step:])


def test_shards_of_a_stream_are_its_every_nth_example(jpegs, settings):
    whole = np.concatenate(_stream(jpegs, 6, settings))
    for index in range(3):
        shard = np.concatenate(_stream(jpegs, 2, settings, shard=(index, 3)))
        np.testing.assert_array_equal(shard, whole[index::3])
        later = np.concatenate(_stream(jpegs, 1, settings, shard=(index, 3), first_example=10))
        np.testing.assert_array_equal(later, [whole[i] for i in range(10, 48) if i % 3 == index][:8])


def test_every_epoch_of_a_stream_has_each_example_once_in_another_order(jpegs, settings):
    options = {"augmentation": data.Augmentation(crop_area=None, flip=False)}
    images = np.concatenate(_stream(jpegs, 5, settings, **options)).reshape(2, 20, -1)
    assert len(np.unique(images[0], axis=0)) == 20
    np.testing.assert_array_equal(np.unique(images[0], axis=0), np.unique(images[1], axis=0))
    assert not np.array_equal(images[0], images[1])
    other = np.concatenate(_stream(jpegs, 5, settings, **options, seed=2)).reshape(2, 20, -1)
    assert not np.array_equal(images, other)


def test_evaluation_reads_each_example_once_over_shards(jpegs, settings):
    labels = []
    for index in range(2):
        batches = list(data.eval_dataset(jpegs, "test", batch_size=2, shard=(index, 2), **settings))
        assert len(batches) == 3
        labels += [int(n) for batch in batches for n in batch["label"][batch["mask"] == 1]]
    assert sorted(labels) == [0] * 5 + [1] * 4


def test_texts_are_classes():
    source = data.open_source("tfds:convzoo_test_people")
    assert source.class_names == data.class_names("tfds:convzoo_test_people") == ["Ann_Lee", "Bo", "Cy"]
    gray_of_class = {0: 1, 1: 2, 2: 0}
    for example in source.dataset("train").as_numpy_iterator():
        assert tf.io.decode_image(example["image"]).numpy()[0, 0, 0] == gray_of_class[int(example["label"])]
    labels = source.labels("train")
    assert np.bincount(labels).tolist() == [13, 13, 14]
    pairs = data.open_paired_source("tfds:convzoo_test_people", num_pairs=20).pairs("train")
    np.testing.assert_array_equal(labels[pairs.first] == labels[pairs.second], pairs.is_same)


def test_a_name_that_tfds_does_not_know():
    with pytest.raises(DataError, match=r"'tfds:convzoo_nothing'.*no such dataset.*catalog") as error:
        data.open_source("tfds:convzoo_nothing")
    assert "\n" not in str(error.value)


def test_a_data_set_without_images():
    with pytest.raises(DataError, match=r"no Image with a ClassLabel but text: Text"):
        data.open_source("tfds:convzoo_test_texts")


def test_no_network_is_said_at_once(tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    began = time.monotonic()
    with pytest.raises(DataError, match=r"no answer from 127\.0\.0\.1.*TFDS_DATA_DIR") as error:
        data.open_source("tfds:convzoo_test_downloads", data_dir=str(tmp_path))
    assert time.monotonic() - began < 30  # TFDS itself tries for minutes
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)
