"""`coco:`: images with boxes in the JSON format of COCO (https://cocodataset.org/#format-data)."""

import collections
import json
import math
import os

import numpy as np
import tensorflow as tf

from convzoo.data.source import IndexedSource, on_host
from convzoo.errors import DataError, first_line

_LAYOUT = (
    "coco:/path with /path/annotations/instances_SPLIT.json and images in /path/SPLIT, or "
    "coco:/path/images,/path/annotations.json"
)
_PREFIX, _SUFFIX = "instances_", ".json"


def open_coco(spec, location, data_dir):
    """Opens `coco:/path`, with a split for each annotation file, or `coco:IMAGES,ANNOTATIONS.json`.

    Classes are the categories by increasing id; ids may have gaps. Boxes are clipped to the image. Boxes that lack an
    area inside the image, or have a number that is not finite, are left out and counted in `notes`.

    Args:
        spec: The whole source string.
        location: The part after `coco:`.
        data_dir: Unused.

    Returns:
        IndexedSource of boxes. With one annotation file, its split is called train.

    Raises:
        DataError: A file is missing or has another format, or an annotation names an unknown image or category.
    """
    del data_dir
    folder, comma, file = location.partition(",")
    files = {"train": (folder, file)} if comma else _annotation_files(spec, folder)
    parts = {split: _Annotations(spec, split, *paths) for split, paths in files.items()}
    categories = next(iter(parts.values())).categories
    for split, part in parts.items():
        if part.categories != categories:
            raise DataError(
                f"source {spec!r}: the categories of {files[split][1]!r} differ from those of the first annotation file"
            )
    ids = sorted(categories)
    paths = [path for part in parts.values() for path in part.paths]
    if not ids or not paths:
        raise DataError(f"source {spec!r} has {len(ids)} categories and {len(paths)} images; both are needed")
    rows = [image for part in parts.values() for image in part.rows]
    counts = [len(image) for image in rows]
    table = np.array([box for image in rows for box in image], np.float64).reshape(-1, 7)
    offsets = on_host(np.cumsum([0, *counts]))
    path_tensor = on_host(paths)
    columns = {
        "boxes": on_host(table[:, :4].astype(np.float32)),
        "classes": on_host(np.searchsorted(ids, table[:, 4]).astype(np.int64)),
        "areas": on_host(table[:, 5].astype(np.float32)),
        "is_crowd": on_host(table[:, 6].astype(bool)),
    }

    def read_row(row):
        start, stop = offsets[row], offsets[row + 1]
        label = {name: values[start:stop] for name, values in columns.items()}
        return {"image": tf.io.read_file(tf.gather(path_tensor, row)), "label": label}

    return IndexedSource(
        spec,
        [categories[number] for number in ids],
        {split: len(part.paths) for split, part in parts.items()},
        read_row,
        label_kind="boxes",
        row_name=paths.__getitem__,
        notes=[note for part in parts.values() for note in part.notes],
        max_boxes=max(1, *counts),
    )


def _annotation_files(spec, folder):
    """Returns (folder of images, annotation file) of each split of a folder in COCO's layout."""
    annotations = os.path.join(folder, "annotations")
    if not tf.io.gfile.isdir(annotations):
        raise DataError(f"source {spec!r}: folder {annotations!r} does not exist; the layout is {_LAYOUT}")
    files = {}
    for name in sorted(tf.io.gfile.listdir(annotations)):
        if name.startswith(_PREFIX) and name.endswith(_SUFFIX):
            split = name[len(_PREFIX) : -len(_SUFFIX)]
            files[split] = (os.path.join(folder, split), os.path.join(annotations, name))
    if not files:
        raise DataError(f"source {spec!r}: {annotations!r} has no {_PREFIX}SPLIT{_SUFFIX}; the layout is {_LAYOUT}")
    return files


class _Annotations:
    """The contents of one annotation file.

    Attributes:
        categories: dict of category id to name.
        paths: list of the images' paths, by image id.
        rows: list, for each image, of rows (top, left, bottom, right, category id, area in pixels, is_crowd).
        notes: list of str.
    """

    def __init__(self, spec, split, images_folder, path):
        if not tf.io.gfile.isdir(images_folder):
            raise DataError(f"source {spec!r}: folder {images_folder!r} does not exist; the layout is {_LAYOUT}")
        try:
            with tf.io.gfile.GFile(path) as file:
                content = json.load(file)
            self.categories = {int(category["id"]): str(category["name"]) for category in content["categories"]}
            images = {int(image["id"]): image for image in content["images"]}
            sizes = {number: (float(image["height"]), float(image["width"])) for number, image in images.items()}
            self.paths = [os.path.join(images_folder, str(images[number]["file_name"])) for number in sorted(images)]
            rows = {number: [] for number in sorted(images)}
            ignored = collections.Counter()
            for annotation in content["annotations"]:
                image, category = int(annotation["image_id"]), int(annotation["category_id"])
                if image not in images or category not in self.categories:
                    unknown = f"image_id {image}" if image not in images else f"category_id {category}"
                    raise DataError(
                        f"source {spec!r}: annotation {annotation.get('id')!r} of {path!r} has the unknown {unknown}; "
                        "correct or remove it"
                    )
                box = _box(*annotation["bbox"], *sizes[image])
                if isinstance(box, str):
                    ignored[box] += 1
                    continue
                area = float(annotation.get("area", annotation["bbox"][2] * annotation["bbox"][3]))
                rows[image].append((*box, category, area, bool(annotation.get("iscrowd", 0))))
        except (tf.errors.OpError, OSError) as error:
            raise DataError(
                f"source {spec!r}: cannot read {path!r} ({first_line(error)}); the layout is {_LAYOUT}"
            ) from error
        except DataError:
            raise
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
            raise DataError(
                f"source {spec!r}: {path!r} is not an annotation file of COCO's object detection ({first_line(error)})"
            ) from error
        self.rows = list(rows.values())
        self.notes = [f"ignored in {split}: {number} {kind}" for kind, number in ignored.items()]
        if without := sum(not image for image in self.rows):
            self.notes.append(f"{split} has {without} images without boxes")


def _box(left, top, width, height, image_height, image_width):
    """Returns (top, left, bottom, right) in units of the image's sides, or why the box is left out."""
    if not all(map(math.isfinite, (left, top, width, height))):
        return "boxes with NaN or infinite numbers"
    if width <= 0 or height <= 0:
        return "boxes without an area"
    corners = (top / image_height, left / image_width, (top + height) / image_height, (left + width) / image_width)
    top, left, bottom, right = (min(max(corner, 0.0), 1.0) for corner in corners)
    if bottom <= top or right <= left:
        return "boxes outside their image"
    return top, left, bottom, right
