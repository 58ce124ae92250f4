"""`coco:`: images with boxes in the JSON format of COCO (https://cocodataset.org/#format-data)."""

import codecs
import collections
import os
import re
from typing import Annotated, Literal

import numpy as np
import pydantic
import tensorflow as tf
from pydantic import Field

from convzoo.data import decoding
from convzoo.data.source import IndexedSource, on_host
from convzoo.errors import DataError, first_line

_LAYOUT = (
    "coco:/path with /path/annotations/instances_SPLIT.json and images in /path/SPLIT, or "
    "coco:/path/images,/path/annotations.json"
)
_PREFIX, _SUFFIX = "instances_", ".json"
_LONGEST_VALUE = 80


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)


_Side = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Name = Annotated[str, Field(min_length=1)]


class _Image(_Strict):
    id: int
    file_name: _Name
    height: _Side
    width: _Side


class _Category(_Strict):
    id: int
    name: _Name


class _Annotation(_Strict):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]  # left, top, width, height in pixels
    area: float | None = None
    iscrowd: bool | Literal[0, 1] = False


class _Annotations(_Strict):
    """The contents of an annotation file."""

    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Annotation]


def open_coco(spec, location, data_dir):
    """Opens `coco:/path`, with a split for each annotation file, or `coco:IMAGES,ANNOTATIONS.json`.

    Classes are the categories by increasing id; ids may have gaps. Boxes are clipped to the image. Boxes that lack an
    area inside the image, or have a number that is not finite, are left out and counted in `notes`. An image file of
    another size than its annotation states counts as corrupt. In a folder, an annotation file without a folder of
    images has no split.

    Args:
        spec: The whole source string.
        location: The part after `coco:`.
        data_dir: Unused.

    Returns:
        IndexedSource of boxes. With one annotation file, its split is called train.

    Raises:
        DataError: A file is missing or has another format, ids or names of categories are not unique, or an annotation
            names an unknown image or category.
    """
    del data_dir
    if not location:
        raise DataError(f"source {spec!r} has no folder; use {_LAYOUT}")
    images, comma, file = location.rpartition(",")
    if comma and not tf.io.gfile.isdir(location):
        files, notes = {"train": (images, os.path.expanduser(file))}, []
    else:
        files, notes = _annotation_files(spec, location)
    parts = {split: _Part(spec, split, *paths) for split, paths in files.items()}
    categories = next(iter(parts.values())).categories
    for split, part in parts.items():
        if part.categories != categories:
            first = next(iter(files.values()))[1]
            number, name = next(iter(dict(part.categories.items() ^ categories.items()).items()))
            raise DataError(
                f"source {spec!r}: only one of {first!r} and {files[split][1]!r} has the category {number}, {name!r}; "
                "give all annotation files the same categories"
            )
    paths = [path for part in parts.values() for path in part.paths]
    if not categories or not paths:
        raise DataError(f"source {spec!r} has {len(categories)} categories and {len(paths)} images; both are needed")
    rows = [image for part in parts.values() for image in part.rows]
    counts = [len(image) for image in rows]
    table = np.array([box for image in rows for box in image], np.float64).reshape(-1, 7)
    offsets = on_host(np.cumsum([0, *counts]))
    path_tensor = on_host(paths)
    sizes = on_host([size for part in parts.values() for size in part.sizes])
    columns = {
        "boxes": on_host(table[:, :4].astype(np.float32)),
        "classes": on_host(table[:, 4].astype(np.int64)),
        "areas": on_host(table[:, 5].astype(np.float32)),
        "is_crowd": on_host(table[:, 6].astype(bool)),
    }

    def read_row(row):
        start, stop = offsets[row], offsets[row + 1]
        label = {name: values[start:stop] for name, values in columns.items()}
        image = tf.io.read_file(tf.gather(path_tensor, row))
        with tf.control_dependencies([_assert_size(image, tf.gather(sizes, row))]):
            return {"image": tf.identity(image), "label": label}

    return IndexedSource(
        spec,
        list(categories.values()),
        {split: len(part.paths) for split, part in parts.items()},
        read_row,
        label_kind="boxes",
        row_name=paths.__getitem__,
        notes=[*notes, *(note for part in parts.values() for note in part.notes)],
        max_boxes=max(1, *counts),
    )


def _assert_size(image, annotated):
    """Asserts that an encoded image has the annotated height and width, float [2], as stored, without rotation."""
    size = decoding.image_size(image, rotate=False)
    is_same = tf.reduce_all(tf.abs(tf.cast(size, tf.float32) - annotated) < 1.0)
    is_known = decoding.has_known_format(image)  # if not, decoding says so
    message = ["height and width of the image are", size, "but those of its annotation", annotated]
    return tf.raw_ops.Assert(condition=is_same | tf.logical_not(is_known), data=message)


def _annotation_files(spec, folder):
    """Returns (folder of images, annotation file) of each split of a folder in COCO's layout, and notes."""
    annotations = os.path.join(folder, "annotations")
    if not tf.io.gfile.isdir(annotations):
        raise DataError(f"source {spec!r}: folder {annotations!r} does not exist; the layout is {_LAYOUT}")
    files, notes = {}, []
    for name in sorted(tf.io.gfile.listdir(annotations)):
        if name.startswith(_PREFIX) and name.endswith(_SUFFIX):
            split = name[len(_PREFIX) : -len(_SUFFIX)]
            images = os.path.join(folder, split)
            if not re.fullmatch(r"\w[\w.-]*", split):
                notes.append(f"no split of {name}, because {split!r} is no name of a split; use letters and digits")
            elif tf.io.gfile.isdir(images):
                files[split] = (images, os.path.join(annotations, name))
            else:
                notes.append(f"no split {split}, because its folder of images {images!r} does not exist")
    if not files:
        missing = f"; {notes[0]}" if notes else ""
        raise DataError(
            f"source {spec!r}: {annotations!r} has no {_PREFIX}SPLIT{_SUFFIX} with a folder of images{missing}; the "
            f"layout is {_LAYOUT}"
        )
    return files, notes


class _Part:
    """The images of one annotation file.

    Attributes:
        categories: dict of category id to name.
        paths: list of the images' paths, by image id.
        sizes: list of their annotated heights and widths in pixels.
        rows: list, for each image, of rows (top, left, bottom, right, class index, area in pixels, is_crowd).
        notes: list of str.
    """

    def __init__(self, spec, split, images_folder, path):
        if not tf.io.gfile.isdir(images_folder):
            raise DataError(f"source {spec!r}: folder {images_folder!r} does not exist; the layout is {_LAYOUT}")
        content = _read(spec, path)
        images = _by_unique(spec, path, "image id", ((image.id, image) for image in content.images))
        self.categories = _by_unique(spec, path, "category id", ((x.id, x.name) for x in content.categories))
        _by_unique(spec, path, "category name", ((name, name) for name in self.categories.values()))
        self.paths = [os.path.join(images_folder, image.file_name) for image in images.values()]
        self.sizes = [(image.height, image.width) for image in images.values()]
        class_of = {number: index for index, number in enumerate(self.categories)}
        rows = {number: [] for number in images}
        problems = collections.Counter()
        for index, annotation in enumerate(content.annotations):
            for field, known in (("image_id", images), ("category_id", self.categories)):
                if getattr(annotation, field) not in known:
                    raise DataError(
                        f"source {spec!r}: annotations[{index}] of {path!r} has the unknown {field} "
                        f"{getattr(annotation, field)}; correct or remove it"
                    )
            image = images[annotation.image_id]
            box = _box(annotation.bbox, image)
            if isinstance(box, str):
                problems[f"left out {{}} {box}"] += 1
                continue
            area = annotation.area
            if area is not None and not 0 <= area <= image.height * image.width:
                problems["{} areas are not from 0 to the image's; those of the boxes take their place"] += 1
                area = None
            if area is None:
                area = (box[2] - box[0]) * image.height * (box[3] - box[1]) * image.width
            row = (*box, class_of[annotation.category_id], area, bool(annotation.iscrowd))
            rows[annotation.image_id].append(row)
        self.rows = list(rows.values())
        self.notes = [f"{split}: {text.format(number)}" for text, number in problems.items()]
        if repeated := len(self.paths) - len({*self.paths}):
            self.notes.append(f"{split}: {repeated} of {len(self.paths)} images are files that another image has too")
        without = sum(not any(not is_crowd for *_, is_crowd in image) for image in self.rows)
        if without:
            self.notes.append(f"{split}: {without} of {len(self.rows)} images have no object")


def _read(spec, path):
    """Returns the contents of an annotation file."""
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return _Annotations.model_validate_json(file.read().removeprefix(codecs.BOM_UTF8))
    except (tf.errors.OpError, OSError) as error:
        raise DataError(
            f"source {spec!r}: cannot read {path!r} ({first_line(error)}); the layout is {_LAYOUT}"
        ) from error
    except pydantic.ValidationError as error:
        found = error.errors()[0]
        # The name of a variant of a type follows the name of its field.
        loc = [part for part in found["loc"] if part not in ("bool", "literal[0,1]")]
        name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
        value = "" if found["type"] in ("missing", "json_invalid") else f"={found['input']!r}"[:_LONGEST_VALUE]
        message = "use 0 or 1" if len(loc) < len(found["loc"]) else found["msg"]
        raise DataError(
            f"source {spec!r}: {path!r} is not an annotation file of COCO's object detection: "
            f"{name or 'the content'}{value}: {message}; correct it"
        ) from error


def _by_unique(spec, path, kind, pairs):
    """Returns a dict of the pairs, ordered by key. Raises DataError if a key occurs twice."""
    values = {}
    for key, value in pairs:
        if key in values:
            raise DataError(f"source {spec!r}: {path!r} has the {kind} {key!r} twice; make them different")
        values[key] = value
    return dict(sorted(values.items()))


def _box(bbox, image):
    """Returns (top, left, bottom, right) in units of the image's sides, or why the box is left out."""
    left, top, width, height = bbox
    if not np.all(np.isfinite(bbox)):
        return "boxes with NaN or infinite numbers"
    if width <= 0 or height <= 0:
        return "boxes without an area"
    corners = np.array([top, left, top + height, left + width]) / np.tile([image.height, image.width], 2)
    top, left, bottom, right = np.clip(corners, 0.0, 1.0).astype(np.float32).tolist()
    return (top, left, bottom, right) if bottom > top and right > left else "boxes without an area inside their image"
