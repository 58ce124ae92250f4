"""Sources with boxes: generated shapes, COCO's format, TensorFlow Datasets; equal augmentation of image and boxes."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from etils import epath

from convzoo import data
from convzoo.data import labels, tfds_source, transforms
from convzoo.data.source import IndexedSource
from convzoo.errors import DataError

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
WHOLE = data.Augmentation(crop_area=None, flip=False)


def _tight_boxes(image, classes):
    """Returns the box of the pixels of each class, whose color is red, green or blue, or None where there are none."""
    boxes = []
    for number in classes:
        rows, columns = (np.flatnonzero((image[..., number] > 127).any(axis)) for axis in (1, 0))
        boxes.append([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1] if len(rows) else None)
    return boxes


@pytest.fixture(scope="module")
def blocks():
    """Images of 48 x 64 pixels with 0 to 3 rectangles, red, green and blue; the blue one is a crowd."""
    rng = np.random.default_rng(0)
    images, rows = np.zeros((9, 48, 64, 3), np.uint8), []
    for index, image in enumerate(images):
        for number in range(index % 4):
            top, left = rng.integers(0, 24), 22 * number
            height, width = rng.integers(8, 24), rng.integers(8, 20)
            image[top : top + height, left : left + width, number] = 255
            box = np.array([top, left, top + height, left + width]) / [48, 64, 48, 64]
            rows.append((*box, number, number == 2))
    offsets = tf.constant(np.cumsum([0, *(index % 4 for index in range(9))]))
    table, images = np.array(rows), tf.constant(images)
    columns = {
        "boxes": tf.constant(table[:, :4], tf.float32),
        "classes": tf.constant(table[:, 4], tf.int64),
        "is_crowd": tf.constant(table[:, 5] > 0),
    }

    def read_row(row):
        label = {name: values[offsets[row] : offsets[row + 1]] for name, values in columns.items()}
        return {"image": tf.gather(images, row), "label": label}

    return IndexedSource("blocks", ["a", "b", "c"], {"train": 6, "test": 3}, read_row, label_kind="boxes", max_boxes=3)


def test_generated_shapes():
    source = data.open_source("shapes_boxes:size=64,examples=200", label_kind="boxes")
    assert (source.splits, source.class_names) == ({"train": 200, "test": 50}, ["disc", "square", "triangle"])
    examples = list(source.dataset("train").as_numpy_iterator())
    again = list(source.dataset("train").as_numpy_iterator())
    test = list(source.dataset("test").as_numpy_iterator())
    counts = np.array([len(example["label"]["boxes"]) for example in examples])
    assert counts.min() >= 1
    assert counts.max() <= source.max_boxes
    assert len(set(counts)) > 3
    boxes = np.concatenate([example["label"]["boxes"] for example in examples])
    classes = np.concatenate([example["label"]["classes"] for example in examples])
    assert boxes.min() >= 0
    assert boxes.max() <= 1
    sides = (boxes[:, 2:] - boxes[:, :2]).max(1)
    assert sides.min() < 0.1
    assert sides.max() > 0.7
    assert set(classes) == {0, 1, 2}
    for example, same in zip(examples, again, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, example, same)
    assert not any(np.array_equal(a["image"], b["image"]) for a in examples for b in test)


def test_boxes_of_generated_shapes_are_tight():
    """In an image of one shape, the box encloses the pixels far from the gray of the background."""
    source = data.open_source("shapes_boxes:size=64,examples=200", label_kind="boxes")
    checked = 0
    for example in source.dataset("train").as_numpy_iterator():
        if len(example["label"]["boxes"]) == 1:
            far = np.abs(example["image"].astype(int) - 128).max(-1) > 45  # the noise is at most 40
            rows, columns = np.flatnonzero(far.any(1)), np.flatnonzero(far.any(0))
            found = np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1])
            assert np.abs(found - 64 * example["label"]["boxes"][0]).max() <= 1
            checked += 1
    assert checked > 10


def test_shapes_too_small_for_a_pixel_are_left_out():
    source = data.open_source("shapes_boxes:size=4,examples=200", label_kind="boxes")
    counts = [len(example["label"]["boxes"]) for example in source.dataset("train").as_numpy_iterator()]
    assert min(counts) == 0
    assert max(counts) > 1


def test_training_labels_are_objects_in_their_places(blocks):
    batches = data.train_dataset(
        blocks,
        "train",
        image_size=(96, 96),
        batch_size=6,
        seed=0,
        augmentation=WHOLE,
        interpolation="bilinear",
        **PLAIN,
    )
    assert batches.element_spec["label"] == {
        "boxes": tf.TensorSpec([6, 3, 4], tf.float32),
        "classes": tf.TensorSpec([6, 3], tf.int32),
        "count": tf.TensorSpec([6], tf.int32),
    }
    batch = next(iter(batches))
    assert sorted(batch["label"]["count"].numpy()) == [0, 0, 1, 1, 2, 2]  # without crowds
    for image, boxes, classes, count in zip(
        batch["image"].numpy(), *(batch["label"][name].numpy() for name in ("boxes", "classes", "count")), strict=True
    ):
        np.testing.assert_array_equal(classes[:count], np.arange(count))
        np.testing.assert_array_equal(boxes[count:], 0)
        found = _tight_boxes(image, classes[:count])
        np.testing.assert_allclose(96 * boxes[:count], np.reshape(found, (count, 4)), atol=1.5)


def test_boxes_are_cropped_and_mirrored_with_the_image(blocks):
    augmentation = data.Augmentation(crop_area=(0.3, 0.9), crop_aspect=(0.5, 2.0))
    batches = data.train_dataset(
        blocks, "train", image_size=(96, 128), batch_size=6, seed=1, augmentation=augmentation, **PLAIN
    )
    checked, kept = 0, 0
    for batch in batches.take(20):
        for image, boxes, classes, count in zip(
            batch["image"].numpy(),
            *(batch["label"][name].numpy() for name in ("boxes", "classes", "count")),
            strict=True,
        ):
            for box, number in zip(boxes[:count], classes[:count], strict=True):
                found = _tight_boxes(image, [number])[0]
                kept += 1
                if found is not None:  # bicubic edges may hide a sliver
                    checked += 1
                    np.testing.assert_allclose(box * [96, 128, 96, 128], found, atol=4)
    assert checked > 0.95 * kept > 80


def test_a_crop_keeps_boxes_whose_center_it_shows():
    label = {
        "boxes": tf.constant([[0.0, 0.0, 0.5, 0.5], [0.4, 0.4, 1.0, 1.0], [0.0, 0.0, 0.2, 0.2]]),
        "classes": tf.constant([0, 1, 2], tf.int64),
        "is_crowd": tf.constant([False] * 3),
    }
    cropped = labels.crop(label, tf.constant([20, 40, 40, 80]), tf.constant([100, 200, 3]))
    assert cropped["classes"].numpy().tolist() == [0]
    np.testing.assert_allclose(cropped["boxes"], [[0.0, 0.0, 0.75, 0.75]], rtol=1e-6)


def test_crops_show_enough_of_an_object_or_are_the_whole_image():
    boxes = tf.constant([[0.4, 0.4, 0.6, 0.6]])
    sample = tf.function(
        lambda seed: transforms.sample_box_around(tf.constant([100, 100, 3]), boxes, seed, (0.1, 0.5), (0.5, 2.0))
    )
    windows = np.array([sample(tf.constant([0, seed], tf.int64)) for seed in range(300)])
    is_whole = (windows == [0, 0, 100, 100]).all(1)
    assert 0.1 < is_whole.mean() < 0.3
    top, left, height, width = windows[~is_whole].T
    assert np.all((height * width > 900) & (height * width < 5100))
    covered = np.clip(np.minimum(top + height, 60) - np.maximum(top, 40), 0, None) * np.clip(
        np.minimum(left + width, 60) - np.maximum(left, 40), 0, None
    )
    assert (covered > 0).mean() > 0.8  # one in seven needs to show nothing
    assert (covered > 0.9 * 400).mean() > 0.25


def test_evaluation_labels(blocks):
    batch = next(
        iter(data.eval_dataset(blocks, "test", image_size=(24, 24), batch_size=4, crop_fraction=None, **PLAIN))
    )
    label = {name: values.numpy() for name, values in batch["label"].items()}
    assert label["count"].tolist() == [2, 2, 0, 0]
    assert label["num_crowds"].tolist() == [0, 1, 0, 0]
    assert label["size"].tolist() == [[48, 64]] * 3 + [[0, 0]]
    pixels = label["boxes"] * [48, 64, 48, 64]
    areas = (pixels[..., 2] - pixels[..., 0]) * (pixels[..., 3] - pixels[..., 1])
    np.testing.assert_allclose(label["areas"], areas, rtol=1e-5)
    assert batch["mask"].numpy().tolist() == [1, 1, 1, 0]


@pytest.fixture
def coco(tmp_path):
    """write(name=annotations file, **changes of the content): a folder in COCO's layout with four images."""
    (tmp_path / "val").mkdir()
    for number in range(4):
        png = tf.io.encode_png(np.full((40, 60, 3), 50 * number, np.uint8)).numpy()
        (tmp_path / "val" / f"{number}.png").write_bytes(png)
    content = {
        "images": [{"id": 7 - n, "file_name": f"{n}.png", "height": 40, "width": 60} for n in range(4)],
        "categories": [{"id": 90, "name": "kite"}, {"id": 3, "name": "car"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 90, "bbox": [6, 4, 12, 8], "area": 50.0, "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 3, "bbox": [-6, -4, 12, 8], "area": 20.0, "iscrowd": 0},
            {"id": 3, "image_id": 6, "category_id": 3, "bbox": [0, 0, 60, 40], "area": 2000.0, "iscrowd": 1},
            {"id": 4, "image_id": 6, "category_id": 3, "bbox": [5, 5, 0, 9], "area": 0.0, "iscrowd": 0},
            {"id": 5, "image_id": 5, "category_id": 3, "bbox": [70, 5, 5, 9], "area": 45.0, "iscrowd": 0},
            {"id": 6, "image_id": 5, "category_id": 3, "bbox": [float("nan"), 5, 5, 9], "area": 45.0, "iscrowd": 0},
        ],
    }

    def write(**changes):
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / "instances_val.json").write_text(json.dumps({**content, **changes}))
        return tmp_path

    return write


def test_coco(coco):
    folder = coco()
    source = data.open_source(f"coco:{folder}", label_kind="boxes")
    assert (source.class_names, source.splits, source.max_boxes) == (["car", "kite"], {"val": 4}, 2)
    assert source.notes == [
        "val: left out 1 boxes without an area",
        "val: left out 1 boxes without an area inside their image",
        "val: left out 1 boxes with NaN or infinite numbers",
        "val: 3 of 4 images have no object",
    ]
    examples = list(source.dataset("val").as_numpy_iterator())
    # Images are sorted by id.
    assert [tf.io.decode_png(example["image"])[0, 0, 0] for example in examples] == [150, 100, 50, 0]
    last = examples[3]["label"]
    np.testing.assert_allclose(last["boxes"], [[0.1, 0.1, 0.3, 0.3], [0.0, 0.0, 0.1, 0.1]], rtol=1e-6)
    assert last["classes"].tolist() == [1, 0]
    assert last["areas"].tolist() == [50, 20]
    assert examples[2]["label"]["is_crowd"].tolist() == [True]
    assert len(examples[0]["label"]["boxes"]) == 0
    pair = data.open_source(f"coco:{folder}/val,{folder}/annotations/instances_val.json", label_kind="boxes")
    assert pair.splits == {"train": 4}
    settings = {"image_size": (16, 16), "batch_size": 4, "crop_fraction": None, **PLAIN}
    batch = next(iter(data.eval_dataset(source, "val", **settings)))
    assert batch["label"]["areas"].numpy()[3].tolist() == [50, 20]
    assert batch["label"]["size"].numpy().tolist() == [[40, 60]] * 4


def test_a_missing_image_counts_as_corrupt(coco):
    folder = coco()
    (folder / "val" / "1.png").unlink()
    source = data.open_source(f"coco:{folder}", label_kind="boxes")
    settings = {"image_size": (16, 16), "batch_size": 4, "crop_fraction": None, **PLAIN}
    batch = next(iter(data.eval_dataset(source, "val", max_corrupt_fraction=1.0, **settings)))
    assert batch["mask"].numpy().tolist() == [1, 1, 0, 1]
    data.check_images(source, "val")  # reads each sampled image alone
    with pytest.raises(DataError, match=r"1\.png"), data.reraise_data_errors():
        list(data.eval_dataset(source, "val", **settings))


def test_an_image_of_another_size_counts_as_corrupt(coco):
    folder = coco()
    (folder / "val" / "2.png").write_bytes(tf.io.encode_png(np.zeros((60, 40, 3), np.uint8)).numpy())
    source = data.open_source(f"coco:{folder}", label_kind="boxes")
    settings = {"image_size": (16, 16), "batch_size": 4, "crop_fraction": None, **PLAIN}
    batch = next(iter(data.eval_dataset(source, "val", max_corrupt_fraction=1.0, **settings)))
    assert batch["mask"].numpy().tolist() == [1, 0, 1, 1]
    message = r"2\.png.*\[60 40\].*\[40 60\]"
    with pytest.raises(DataError, match=message), data.reraise_data_errors():
        list(data.eval_dataset(source, "val", **settings))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": [{"id": 4, "image_id": 99, "category_id": 3, "bbox": [0, 0, 1, 1]}]}, "unknown image_id 99"),
        ({"annotations": [{"id": 4, "image_id": 7, "category_id": 5, "bbox": [0, 0, 1, 1]}]}, "unknown category_id 5"),
        ({"annotations": [{"id": 4, "image_id": 7, "category_id": 3, "bbox": [0, 0]}]}, r"annotations\[0\]\.bbox"),
        ({"annotations": [{"id": 4, "image_id": 7, "category_id": 3}]}, r"annotations\[0\]\.bbox: Field required"),
        (
            {"annotations": [{"image_id": 7, "category_id": 3, "bbox": [0, 0, 1, 1], "iscrowd": None}]},
            "None: use 0 or 1",
        ),
        ({"annotations": [{"image_id": 7.5, "category_id": 3, "bbox": [0, 0, 1, 1]}]}, r"image_id=7\.5"),
        ({"images": [{"id": 1, "file_name": "a.png"}]}, r"images\[0\]\.height: Field required"),
        ({"images": [{"id": 1, "file_name": "a.png", "height": 0, "width": 5}]}, r"height=0"),
        ({"images": [{"id": 1, "file_name": "a.png", "height": 5, "width": 5}] * 2}, "image id 1 twice"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "category id 1 twice"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}, "category name 'a' twice"),
        ({"images": []}, "unknown image_id"),
        ({"images": [], "annotations": []}, "0 images"),
        ({"categories": None}, "categories=None"),
    ],
)
def test_invalid_annotations(coco, changes, message):
    with pytest.raises(DataError, match=message) as error:
        data.open_source(f"coco:{coco(**changes)}", label_kind="boxes")
    assert "\n" not in str(error.value)
    assert "instances_val.json" in str(error.value) or "0 images" in str(error.value)


def test_areas(coco):
    """Without an area, or with one that is none, the clipped box has one."""
    box = {"image_id": 7, "category_id": 3, "bbox": [-1e6, -1e6, 3e6, 3e6]}
    annotations = [box, {**box, "area": None}, {**box, "area": -5.0}, {**box, "area": float("nan")}, {**box, "area": 7}]
    annotations.append({**box, "area": 1e39})
    source = data.open_source(f"coco:{coco(annotations=annotations)}", label_kind="boxes")
    label = list(source.dataset("val").as_numpy_iterator())[3]["label"]
    assert label["areas"].tolist() == [2400, 2400, 2400, 2400, 7, 2400]
    assert "val: 3 areas are not from 0 to the image's; those of the boxes take their place" in source.notes


def test_large_ids_and_shared_files(coco):
    """Identifiers of more than 53 bits, as hashes have them, and two images with one file."""
    categories = [{"id": 2**70 + 1, "name": "b"}, {"id": 2**70, "name": "a"}]
    images = [{"id": 2**60 + n, "file_name": "0.png", "height": 40, "width": 60} for n in range(2)]
    box = {"bbox": [0, 0, 9, 9]}
    annotations = [{**box, "image_id": 2**60 + n, "category_id": 2**70 + n} for n in range(2)]
    source = data.open_source(
        f"coco:{coco(categories=categories, images=images, annotations=annotations)}", label_kind="boxes"
    )
    assert source.class_names == ["a", "b"]
    assert [example["label"]["classes"].tolist() for example in source.dataset("val").as_numpy_iterator()] == [[0], [1]]
    assert "val: 1 of 2 images are files that another image has too" in source.notes


def test_files_of_other_programs(coco):
    """A byte order mark, a name that is no split, other categories in another file."""
    folder = coco()
    annotations = folder / "annotations" / "instances_val.json"
    text = annotations.read_text()
    annotations.write_text("\ufeff" + text)
    (folder / "annotations" / "instances_.json").write_text(text)
    source = data.open_source(f"coco:{folder}", label_kind="boxes")
    assert list(source.splits) == ["val"]
    assert any("no split of instances_.json" in note for note in source.notes)
    (folder / "test").mkdir()
    (folder / "annotations" / "instances_test.json").write_text(text.replace("kite", "plane"))
    with pytest.raises(DataError, match=r"instances_val\.json' has the category 90, '(kite|plane)'"):
        data.open_source(f"coco:{folder}", label_kind="boxes")


def test_a_split_without_images_is_left_out(coco):
    folder = coco()
    annotations = folder / "annotations" / "instances_val.json"
    (folder / "annotations" / "instances_train.json").write_text(annotations.read_text())
    source = data.open_source(f"coco:{folder}", label_kind="boxes")
    assert list(source.splits) == ["val"]
    assert "no split train" in source.notes[0]


def test_a_folder_with_a_comma(coco, tmp_path):
    folder = coco()
    (tmp_path / "a,b").mkdir()
    for name in ("val", "annotations"):
        (folder / name).rename(tmp_path / "a,b" / name)
    assert data.open_source(f"coco:{tmp_path}/a,b", label_kind="boxes").splits == {"val": 4}


def test_missing_files(coco, tmp_path):
    folder = coco()
    (folder / "annotations" / "broken.json").write_text("{")
    for spec, message in (
        (f"coco:{folder / 'no'}", "does not exist"),
        (f"coco:{folder}/val,{folder}/no.json", "cannot read"),
        (f"coco:{folder}/no,{folder}/annotations/instances_val.json", "does not exist"),
        (f"coco:{folder}/val,{folder}/annotations/broken.json", "not an annotation file"),
        (f"coco:{folder}/val,{folder}/annotations", "cannot read"),
        ("coco:", "no folder"),
        ("digits", "one label per image, not boxes"),
        ("tfds:mnist", "not a known detection dataset; available: coco, voc"),
    ):
        with pytest.raises(DataError, match=message) as error:
            data.open_source(spec, str(tmp_path), label_kind="boxes")
        assert "\n" not in str(error.value)
    (folder / "annotations" / "instances_val.json").unlink()
    with pytest.raises(DataError, match="instances_SPLIT"):
        data.open_source(f"coco:{folder}", label_kind="boxes")


class ConvzooTestBoxes(tfds.core.GeneratorBasedBuilder):
    """Objects as TFDS's COCO has them."""

    VERSION = tfds.core.Version("1.0.0")
    code_path = epath.Path(__file__)

    def _info(self):
        objects = {
            "bbox": tfds.features.BBoxFeature(),
            "label": tfds.features.ClassLabel(names=["cat", "dog"]),
            "is_crowd": tf.bool,
            "area": tf.int64,
            "id": tf.int64,
        }
        features = {"image": tfds.features.Image(encoding_format="png"), "objects": tfds.features.Sequence(objects)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(5)}

    def _generate_examples(self, count):
        for i in range(count):
            objects = [
                {
                    "bbox": tfds.features.BBox(0.0, 0.1 * k, 0.5, 0.1 * k + 0.05),
                    "label": k % 2,
                    "is_crowd": k == 2,
                    "area": 100 + k,
                    "id": k,
                }
                for k in range(i)
            ]
            yield i, {"image": np.full((20, 30, 3), i, np.uint8), "objects": objects}


def test_tfds(tmp_path, monkeypatch):
    monkeypatch.setitem(tfds_source._DETECTION, "convzoo_test_boxes", ("is_crowd", "area", 6))
    source = data.open_source("tfds:convzoo_test_boxes", str(tmp_path), label_kind="boxes")
    assert (source.class_names, source.max_boxes) == (["cat", "dog"], 6)
    for example in source.dataset("train").as_numpy_iterator():
        number = tf.io.decode_png(example["image"]).numpy()[0, 0, 0]
        label = example["label"]
        assert label["areas"].tolist() == [100 + k for k in range(number)]
        assert label["classes"].tolist() == [k % 2 for k in range(number)]
        assert label["is_crowd"].tolist() == [k == 2 for k in range(number)]
        np.testing.assert_allclose(label["boxes"][:, 1], 0.1 * np.arange(number), atol=1e-6)
    batch = next(iter(data.train_dataset(source, "train", image_size=(16, 16), batch_size=5, seed=0, **PLAIN)))
    assert batch["label"]["boxes"].shape == (5, 6, 4)


def test_known_tfds_datasets_have_the_features(tmp_path):
    for name, (crowd, area, _) in tfds_source._DETECTION.items():
        config = {"coco": "coco/2017", "voc": "voc/2007"}[name]
        features = tfds.builder(config, data_dir=str(tmp_path)).info.features
        assert {"bbox", "label", crowd, *([area] if area else [])} <= set(features["objects"].feature)
        assert isinstance(features["image"], tfds.features.Image)
