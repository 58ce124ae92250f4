"""Sources with dense labels: contents, and equal augmentation of image and label map."""

import io

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

from convzoo import data
from convzoo.data import tfds_source
from convzoo.data.source import IndexedSource
from convzoo.errors import DataError

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
# A color for each class of `blocks`.
COLORS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)


@pytest.fixture(scope="module")
def blocks():
    """Images of 24 x 36 pixels made of blocks whose color encodes the class."""
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(0, 4, (10, 4, 6)), np.ones((6, 6), np.int64)).astype(np.uint8)
    labels_of, images_of = tf.constant(labels), tf.constant(COLORS[labels])
    return IndexedSource(
        "blocks",
        ["black", "red", "green", "blue"],
        {"train": 7, "test": 3},
        lambda row: {"image": tf.gather(images_of, row), "label": tf.gather(labels_of, row)},
        label_kind="map",
    )


def nearest_color(images):
    return np.abs(images[..., None, :] - COLORS).sum(-1).argmin(-1)


def test_shapes():
    source = data.open_source("shapes:size=40,examples=12", label_kind="map")
    assert (source.splits, source.class_names) == (
        {"train": 12, "test": 3},
        ["background", "disc", "square", "triangle"],
    )
    assert source.label_kind == "map"
    train, again = (list(source.dataset("train").as_numpy_iterator()) for _ in range(2))
    test = list(source.dataset("test").as_numpy_iterator())
    seen = set()
    for example, same in zip(train, again, strict=True):
        assert (example["image"].shape, example["image"].dtype) == ((40, 40, 3), np.uint8)
        assert (example["label"].shape, example["label"].dtype) == ((40, 40), np.uint8)
        for key in example:
            np.testing.assert_array_equal(example[key], same[key])
        # Shapes are no noise: their colors are far from the ground's gray, in one channel at least.
        far = np.abs(example["image"].astype(int) - 128).max(-1) > 40
        assert far[example["label"] > 0].mean() > 0.9
        assert far[example["label"] == 0].mean() < 0.05
        seen |= set(np.unique(example["label"]))
    assert seen == {0, 1, 2, 3}
    assert not any(np.array_equal(a["image"], b["image"]) for a in train for b in test)


def test_cut_and_mirrored_together(blocks):
    batches = data.train_dataset(
        blocks,
        "train",
        image_size=(48, 48),
        batch_size=7,
        seed=0,
        augmentation=data.Augmentation(crop_area=(0.3, 0.8)),
        interpolation="bilinear",
        **PLAIN,
    )
    batch = next(iter(batches))
    assert batches.element_spec["label"] == tf.TensorSpec([7, 48, 48], tf.int32)
    # Between two colors a pixel may be nearer to either.
    agree = nearest_color(batch["image"].numpy()) == batch["label"].numpy()
    assert agree.mean() > 0.9
    # A map that was not mirrored with its image would agree by chance alone.
    assert all(of_one.mean() > 0.85 for of_one in agree)


def test_some_images_are_mirrored(blocks):
    plain, flipped = (
        next(
            iter(
                data.train_dataset(
                    blocks,
                    "train",
                    image_size=(24, 36),
                    batch_size=7,
                    seed=3,
                    augmentation=data.Augmentation(crop_area=None, flip=flip),
                    **PLAIN,
                )
            )
        )
        for flip in (False, True)
    )
    mirrored = [np.array_equal(a[:, ::-1], b) for a, b in zip(plain["label"], flipped["label"], strict=True)]
    same = [np.array_equal(a, b) for a, b in zip(plain["label"], flipped["label"], strict=True)]
    assert 0 < sum(mirrored) < 7
    assert all(one != other for one, other in zip(mirrored, same, strict=True))
    for a, b, turned in zip(plain["image"], flipped["image"], mirrored, strict=True):
        np.testing.assert_array_equal(a[:, ::-1] if turned else a, b)


def test_evaluation_takes_images_whole(blocks):
    batches = list(data.eval_dataset(blocks, "test", image_size=(24, 36), batch_size=2, crop_fraction=None, **PLAIN))
    assert [batch["mask"].numpy().tolist() for batch in batches] == [[1, 1], [1, 0]]
    labels = np.concatenate([batch["label"] for batch in batches])
    images = np.concatenate([batch["image"] for batch in batches])
    expected = list(blocks.dataset("test").as_numpy_iterator())
    np.testing.assert_array_equal(labels[:3], [example["label"] for example in expected])
    np.testing.assert_array_equal(images[:3], [example["image"] for example in expected])
    np.testing.assert_array_equal(labels[3], 0)


class ConvzooTestMasks(tfds.core.GeneratorBasedBuilder):
    """Maps as TFDS keeps them, with values from 1 on, and one pixel of none."""

    VERSION = tfds.core.Version("1.0.0")
    code_path = epath.Path(__file__)

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(encoding_format="png"),
                    "segmentation_mask": tfds.features.Image(shape=(None, None, 1), use_colormap=True),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(5)}

    def _generate_examples(self, count):
        for i in range(count):
            label = np.full((6 + i, 9, 1), 1 + i % 3, np.uint8)
            label[0, 0] = 0
            yield i, {"image": np.repeat(label * 60, 3, axis=2), "segmentation_mask": label}


def test_tfds_segmentation(tmp_path, monkeypatch):
    classes = {1: "pet", 2: "background", 3: "border"}
    monkeypatch.setitem(tfds_source._SEGMENTATION, "convzoo_test_masks", ("image", "segmentation_mask", classes))
    source = data.open_source("tfds:convzoo_test_masks", str(tmp_path), label_kind="map")
    assert source.class_names == ["pet", "background", "border"]
    for example in source.dataset("train").as_numpy_iterator():
        assert example["label"][0, 0] == data.IGNORED
        shade = tf.io.decode_image(example["image"]).numpy()[..., 0]
        np.testing.assert_array_equal(example["label"].astype(int)[shade > 0] + 1, shade[shade > 0] // 60)
    batch = next(iter(data.train_dataset(source, "train", image_size=(16, 16), batch_size=4, seed=0, **PLAIN)))
    assert batch["label"].shape == (4, 16, 16)


def test_known_tfds_datasets_have_the_features(tmp_path):
    for name, (image, label, classes) in tfds_source._SEGMENTATION.items():
        features = tfds.builder(name, data_dir=str(tmp_path)).info.features
        assert isinstance(features[image], tfds.features.Image)
        assert isinstance(features[label], tfds.features.Image)
        assert max(classes) < 255
    counts = {name: len(classes) for name, (_, _, classes) in tfds_source._SEGMENTATION.items()}
    assert counts == {"cityscapes": 19, "oxford_iiit_pet": 3, "scene_parse150": 150}


@pytest.mark.parametrize(
    ("spec", "kind", "message"),
    [
        ("shapes", "class", "'shapes' has one label per pixel, not one label per image; available: digits, fake"),
        ("digits", "map", "'digits' .*; available: masks, shapes, tfds"),
        ("forms", "map", "source 'forms': 'forms' is unknown; available: masks, shapes, tfds"),
        ("shapes:sides=3", "map", "source 'shapes:sides=3': 'sides=3' is not one of size=N, examples=N"),
        ("tfds:cifar10", "map", "'cifar10' .*; available: cityscapes, oxford_iiit_pet"),
    ],
)
def test_sources_that_are_not(spec, kind, message):
    with pytest.raises(DataError, match=message) as error:
        data.open_source(spec, label_kind=kind)
    assert "\n" not in str(error.value)


def test_evaluation_rejects_crops_of_label_maps(blocks):
    with pytest.raises(DataError, match=r"crop_fraction=0\.5 .*'blocks'"):
        data.eval_dataset(blocks, "test", image_size=(24, 36), batch_size=2, crop_fraction=0.5, **PLAIN)


@pytest.mark.parametrize("for_training", [False, True])
def test_an_image_with_a_label_map_is_not_rotated(for_training):
    """The label map belongs to the pixels as they are stored, whatever the Exif orientation says."""
    colors = np.full((24, 36, 3), 255, np.uint8)
    colors[:, :18] = 0
    exif = Image.Exif()
    exif[0x0112] = 6
    content = io.BytesIO()
    Image.fromarray(colors).save(content, "JPEG", exif=exif, quality=100)
    labels = tf.constant(colors[..., 0] // 255)
    source = IndexedSource(
        "rotated",
        ["black", "white"],
        {"train": 1},
        lambda row: {"image": tf.constant(content.getvalue()), "label": labels},
        label_kind="map",
    )
    settings = {"image_size": (24, 36), "interpolation": "bilinear", **PLAIN}
    if for_training:
        dataset = data.train_dataset(
            source, "train", batch_size=1, seed=0, augmentation=data.Augmentation(crop_area=(0.5, 1.0)), **settings
        )
    else:
        dataset = data.eval_dataset(source, "train", batch_size=1, crop_fraction=None, **settings)
    batch = next(iter(dataset))
    white = batch["image"][0, ..., 0].numpy() > 127
    assert (white == (batch["label"][0].numpy() == 1)).mean() > 0.95
