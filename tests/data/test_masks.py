"""Folders of images and index PNGs: decoding, splits, lists, class names, bad masks; labels at their own size."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from convzoo import data
from convzoo.data.masks import decode_mask
from convzoo.errors import DataError

PLAIN = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
SETTINGS = {**PLAIN, "image_size": (16, 16), "crop_fraction": None, "batch_size": 4}


def png(values, mode, bits=8, **arguments):
    image = Image.fromarray(values)
    if mode == "P":
        image.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
        arguments["bits"] = bits
    file = io.BytesIO()
    image.save(file, "PNG", **arguments)
    return file.getvalue()


@pytest.mark.parametrize(
    ("mode", "bits", "classes"), [("L", 8, 256), ("P", 8, 256), ("P", 4, 16), ("P", 2, 4), ("P", 1, 2)]
)
def test_values_are_indices(mode, bits, classes):
    values = np.random.default_rng(1).integers(0, classes, (13, 17)).astype(np.uint8)
    np.testing.assert_array_equal(decode_mask(png(values, mode, bits)), values)


def test_transparent_palettes_and_gray_of_few_bits():
    values = np.random.default_rng(1).integers(0, 2, (5, 9)).astype(np.uint8)
    np.testing.assert_array_equal(decode_mask(png(values, "P", transparency=0)), values)
    file = io.BytesIO()
    Image.fromarray(values.astype(bool)).save(file, "PNG")  # one bit a pixel
    np.testing.assert_array_equal(decode_mask(file.getvalue()), values)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        png(np.zeros((4, 4, 3), np.uint8), "RGB"),
        png(np.zeros((4, 4), np.uint16), "16 bits"),
        tf.io.encode_jpeg(tf.zeros([4, 4, 1], tf.uint8)).numpy(),
        png(np.zeros((40, 40), np.uint8), "P")[:-30],
        png(np.zeros((40, 40), np.uint8), "P")[:30],
    ],
)
def test_other_files_are_no_masks(content):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_mask(content)


def test_a_mask_of_too_many_pixels_is_not_decoded():
    content = bytearray(png(np.zeros((40, 40), np.uint8), "L"))
    content[16:24] = (10_000).to_bytes(4, "big") * 2  # width and height in the header
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than 50000000 pixels"):
        decode_mask(bytes(content))


@pytest.fixture
def folder(tmp_path):
    """Images of class 0 above and 1 or 2 below, whose gray is 100 times the class; one corner has no class."""

    def write(names, split=""):
        for index, name in enumerate(names):
            mask = np.zeros((20 + index, 30), np.uint8)
            mask[10:] = 1 + index % 2
            mask[0, 0] = data.IGNORED
            image = np.repeat((np.minimum(mask, 2) * 100)[..., np.newaxis], 3, 2)
            for kind, content in (("images", tf.io.encode_png(image).numpy()), ("masks", png(mask, "P"))):
                (tmp_path / kind / split).mkdir(parents=True, exist_ok=True)
                (tmp_path / kind / split / f"{name}.png").write_bytes(content)
        return tmp_path, f"masks:{tmp_path}/images,{tmp_path}/masks"

    return write


def test_one_split_with_names(folder):
    path, spec = folder([f"a{index}" for index in range(8)])
    source = data.open_source(spec, label_kind="map")
    assert (source.class_names, source.splits) == (["0", "1", "2"], {"train": 8})
    (path / "masks" / "labels.txt").write_text("sky\nroad\ncar\ntree\n")
    source = data.open_source(spec, label_kind="map")
    assert source.class_names == ["sky", "road", "car", "tree"]
    for example in source.dataset("train").as_numpy_iterator():
        label = example["label"].astype(int)
        assert label[0, 0] == data.IGNORED
        np.testing.assert_array_equal(tf.io.decode_png(example["image"])[..., 0], np.minimum(label, 2) * 100)
    assert 0 < source.num_examples("train[:50%]") < 8
    batch = next(iter(data.train_dataset(source, "train", image_size=(16, 16), batch_size=4, seed=0, **PLAIN)))
    assert batch["label"].shape == (4, 16, 16)


def test_folders_and_lists_as_splits(folder):
    path, spec = folder(["a", "b", "c"], "train")
    folder(["d"], "val")
    assert data.open_source(spec, label_kind="map").splits == {"train": 3, "val": 1}
    (path / "lists").mkdir()
    (path / "lists" / "train.txt").write_text("a\nc\n\n")
    (path / "lists" / "val.txt").write_text("b\n")
    listed = f"masks:{path}/images/train,{path}/masks/train,{path}/lists"
    source = data.open_source(listed, label_kind="map")
    assert source.splits == {"train": 2, "val": 1}
    (path / "lists" / "val.txt").write_text("b\nq\n")
    with pytest.raises(DataError, match=r"1 names in the list val.txt have no image in .* such as q"):
        data.open_source(listed, label_kind="map")


def test_bad_masks_count_as_corrupt(folder):
    path, spec = folder([f"a{index}" for index in range(6)])
    (path / "masks" / "labels.txt").write_text("sky\nroad\ncar\n")
    (path / "masks" / "a0.png").unlink()
    large = np.full((21, 30), 9, np.uint8)
    (path / "masks" / "a1.png").write_bytes(png(large, "L"))
    (path / "masks" / "a2.png").write_bytes(png(np.zeros((5, 5), np.uint8), "L"))
    (path / "masks" / "a3.png").write_bytes(png(np.zeros((23, 30, 3), np.uint8), "RGB"))
    source = data.open_source(spec, label_kind="map")
    assert source.notes == ["train: left out 1 of 6 images without a mask, such as a0"]
    batches = list(data.eval_dataset(source, "train", max_corrupt_fraction=1.0, **SETTINGS))
    assert sum(batch["mask"].numpy().sum() for batch in batches) == 2
    for name, message in (("a1", "value above 2"), ("a2", "those of its mask"), ("a3", "one channel")):
        (path / "one.txt").write_text(name)
        (path / "lists").mkdir(exist_ok=True)
        (path / "lists" / "train.txt").write_text(f"{name}\n")
        one = data.open_source(f"{spec},{path}/lists", label_kind="map")
        with pytest.raises(DataError, match=f"{name}.*{message}"), data.reraise_data_errors():
            list(data.eval_dataset(one, "train", **SETTINGS))


def test_names_that_are_not_unique_and_masks_without_a_second_class(folder):
    path, spec = folder(["a", "b"])
    (path / "images" / "a.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.jpg' and '.*a\.png' have one name"):
        data.open_source(spec, label_kind="map")
    (path / "images" / "a.jpg").unlink()
    for name in "ab":
        (path / "masks" / f"{name}.png").write_bytes(png(np.full((20, 30), 255, np.uint8), "L"))
    with pytest.raises(DataError, match="255 is no class"):
        data.open_source(spec, label_kind="map")


def test_images_beside_folders_are_counted(folder):
    path, spec = folder(["a", "b"], "train")
    (path / "images" / "c.png").write_bytes(b"")
    assert "ignored 1 images outside the folders" in data.open_source(spec, label_kind="map").notes[0]


def test_missing_folders(folder, tmp_path):
    path, spec = folder(["a"], "train")
    (tmp_path / "empty").mkdir()
    for bad, message in (
        (f"masks:{path}/images", "needs a folder of images and one of masks"),
        (f"masks:{path}/no,{path}/masks", "does not exist"),
        (f"masks:{path}/images,{path}/empty", r"empty/train' does not exist"),
        (f"masks:{path}/images/train,{path}/empty", "no images with masks"),
        (f"{spec},{path}/empty", "has no lists SPLIT.txt"),
    ):
        with pytest.raises(DataError, match=message) as error:
            data.open_source(bad, label_kind="map")
        assert "\n" not in str(error.value)


def test_labels_keep_their_size(folder):
    _, spec = folder(["a", "b"])
    source = data.open_source(spec, label_kind="map")
    batch = next(iter(data.eval_dataset(source, "train", label_size=(24, 32), **SETTINGS)))
    maps, sizes = batch["label"]["map"].numpy(), batch["label"]["size"].numpy()
    assert maps.shape == (4, 24, 32)
    for label, (height, width), example in zip(maps, sizes, source.dataset("train").as_numpy_iterator(), strict=False):
        np.testing.assert_array_equal(label[:height, :width], example["label"])
        assert np.all(label[height:] == data.IGNORED)
        assert np.all(label[:, width:] == data.IGNORED)
    with pytest.raises(DataError, match=r"an image is larger than eval_size=.* \[21 30\]"), data.reraise_data_errors():
        list(data.eval_dataset(source, "train", label_size=(20, 32), **SETTINGS))


def test_images_keep_their_scale(folder):
    _, spec = folder(["a", "b"])
    source = data.open_source(spec, label_kind="map")
    settings = {**SETTINGS, "image_size": (24, 32), "keep_scale": True}
    batch = next(iter(data.eval_dataset(source, "train", **settings)))
    for image, label, example in zip(
        batch["image"].numpy(), batch["label"].numpy(), source.dataset("train").as_numpy_iterator(), strict=False
    ):
        height, width = example["label"].shape
        np.testing.assert_array_equal(image[:height, :width], tf.io.decode_png(example["image"], channels=3))
        np.testing.assert_array_equal(label[:height, :width], example["label"])
        assert np.all(image[height:] == 128)
        assert np.all(label[:, width:] == data.IGNORED)
    with pytest.raises(DataError, match=r"an image is larger than eval_size=.* \[21 30\]"), data.reraise_data_errors():
        list(data.eval_dataset(source, "train", **{**settings, "image_size": (20, 32)}))


def test_scale_jitter(folder):
    """Image and map stay together; what is outside the image is gray and has no class."""
    _, spec = folder(["a"])
    source = data.open_source(spec, label_kind="map")
    filled, sharp, gray = [], [], []
    augmentation = data.Augmentation(crop_area=None, scale_jitter=(0.25, 4.0))
    settings = {**PLAIN, "image_size": (24, 24), "interpolation": "bilinear", "augmentation": augmentation}
    for batch in data.train_dataset(source, "train", batch_size=32, seed=0, **settings).take(4):
        for image, label in zip(batch["image"].numpy()[..., 0], batch["label"].numpy(), strict=True):
            inside = label != data.IGNORED
            agrees = np.abs(image - 100 * np.minimum(label, 2)) < 1
            sharp.append(agrees[inside].mean())
            filled.append(1 - inside.mean())
            if inside.mean() < 0.7:
                gray.append((np.abs(image - 128) < 1)[~inside].mean())
    assert np.mean(sharp) > 0.9
    assert len(gray) > 10
    assert np.mean(gray) > 0.9
    assert min(filled) < 0.05
    assert max(filled) > 0.8  # a quarter of the size in each direction


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale_jitter": (0.5, 2.0)}, "exclude each other"),
        ({"crop_area": None, "scale_jitter": (2.0, 0.5)}, "swap the two"),
        ({"crop_area": None, "scale_jitter": (0.0, 0.5)}, "scale_jitter"),
    ],
)
def test_invalid_scale_jitter(arguments, message):
    with pytest.raises(DataError, match=message):
        data.Augmentation(**arguments).check("map")
    with pytest.raises(DataError, match="needs label maps"):
        data.Augmentation(crop_area=None, scale_jitter=(0.5, 2.0)).check("class")
