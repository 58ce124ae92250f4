"""Opens a data source by its string. To add a source, write its open function and add it to a table below."""

import os

import tensorflow_datasets as tfds

from convzoo.data.coco import open_coco
from convzoo.data.digits import open_digits
from convzoo.data.fake import open_fake
from convzoo.data.folder import open_folder
from convzoo.data.glyphs import open_glyphs
from convzoo.data.idx import open_idx
from convzoo.data.imagenet_tfrecord import open_tfrecord
from convzoo.data.masks import open_masks
from convzoo.data.pairs import PairedSource, open_pairs
from convzoo.data.shapes import open_shapes, open_shapes_boxes
from convzoo.data.tfds_prepare import make_builder
from convzoo.data.tfds_source import open_tfds, open_tfds_detection, open_tfds_segmentation, tfds_class_names
from convzoo.errors import DataError

# Functions of (whole string, part after the colon, data_dir) to a Source, by kind of label.
_KINDS = {
    "class": {
        "digits": open_digits,
        "fake": open_fake,
        "folder": open_folder,
        "glyphs": open_glyphs,
        "idx": open_idx,
        "tfds": open_tfds,
        "tfrecord": open_tfrecord,
    },
    "map": {"masks": open_masks, "shapes": open_shapes, "tfds": open_tfds_segmentation},
    "boxes": {"coco": open_coco, "shapes_boxes": open_shapes_boxes, "tfds": open_tfds_detection},
}
_LABELS = {"class": "one label per image", "map": "one label per pixel", "boxes": "boxes"}
_PAIRS = "pairs:"


def open_source(spec, data_dir=None, label_kind="class"):
    """Opens a data source.

    With `label_kind="class"`, one label per image:

    | spec | data |
    |---|---|
    | `digits`, `digits:classes=0-6` | scikit-learn's 1,797 digits, 8x8; needs no network |
    | `digits:classes=0-6,halves=48` | classes that join halves of two of these digits, for verification |
    | `tfds:NAME`, `tfds:NAME/CONFIG:VERSION` | TensorFlow Datasets; prepared on first use |
    | `folder:/path` | images /path/SPLIT/CLASS/image.jpg |
    | `tfrecord:/path`, `tfrecord:gs://bucket/path/train-*` | ImageNet's classic train-00000-of-01024, ... |
    | `idx:/path` | a folder in the format of MNIST |
    | `glyphs`, `glyphs:classes=256,first=1,size=32,examples=16` | generated drawings of a few strokes |
    | `fake`, `fake:classes=10,size=32,examples=256` | noise |

    With `label_kind="map"`, one label per pixel:

    | spec | data |
    |---|---|
    | `shapes`, `shapes:size=64,examples=2048` | generated discs, squares and triangles on noise |
    | `masks:/path/images,/path/masks` | images and index PNGs of the same names, see `convzoo.data.masks` |
    | `masks:IMAGES,MASKS,LISTS` | of the names in the files LISTS/SPLIT.txt, as Pascal VOC has them |
    | `tfds:oxford_iiit_pet` | TensorFlow Datasets: pet, background, border |
    | `tfds:cityscapes/semantic_segmentation`, `tfds:scene_parse150` | 19 classes; the 150 classes of ADE20K |

    With `label_kind="boxes"`, any number of boxes per image, each with a class:

    | spec | data |
    |---|---|
    | `shapes_boxes`, `shapes_boxes:size=128,examples=4096` | generated discs, squares and triangles on noise |
    | `coco:/path` | /path/annotations/instances_SPLIT.json with images in /path/SPLIT |
    | `coco:/path/images,/path/annotations.json` | one split, train |
    | `tfds:coco/2017`, `tfds:voc/2007` | TensorFlow Datasets |

    Args:
        spec: str, from the tables.
        data_dir: Folder of TFDS (`tfds`, `digits`) and of cached record counts (`tfrecord`); None for TFDS_DATA_DIR,
            else ~/tensorflow_datasets.
        label_kind: What the label of an image is.

    Returns:
        Source.

    Raises:
        DataError: The kind is unknown, or the data are missing or invalid.

    Example:
        >>> from convzoo import data
        >>> data.open_source("fake:classes=3,examples=16").num_examples("train[:25%]")
        4
        >>> data.open_source("shapes", label_kind="map").class_names
        ['background', 'disc', 'square', 'triangle']
    """
    opener, rest = _opener(spec, label_kind)
    return opener(spec, os.path.expanduser(rest), _default_folder(data_dir))


def open_paired_source(spec, data_dir=None, **arguments):
    """Opens images with the pairs that verification compares.

    Args:
        spec: `pairs:/path/images,/path/pairs.txt`, pairs in LFW's format, or a source with one label per image, of
            which pairs are generated. scikit-learn's `fetch_lfw_pairs` leaves the images and pairs of LFW in
            ~/scikit_learn_data/lfw_home: `pairs:LFW_HOME/lfw_funneled,LFW_HOME/pairs.txt`.
        data_dir: As for `open_source`.
        **arguments: Further arguments of `PairedSource`, for generated pairs.

    Returns:
        PairedSource.

    Raises:
        DataError: As for `open_source`, or the file of pairs is invalid.

    Example:
        >>> from convzoo import data
        >>> len(data.open_paired_source("digits", num_pairs=100).pairs("test").first)
        100
    """
    if spec.startswith(_PAIRS):
        return open_pairs(spec, os.path.expanduser(spec.removeprefix(_PAIRS)), **arguments)
    return PairedSource(open_source(spec, data_dir), **arguments)


def is_prepared(spec, data_dir=None):
    """Returns False if opening the source would download or prepare a dataset of TensorFlow Datasets.

    Args, Raises: As for `open_source`.

    Example:
        >>> is_prepared("fake:classes=3")
        True
    """
    kind, _, name = spec.partition(":")
    if kind != "tfds":
        return True
    return make_builder(spec, lambda: tfds.builder(name, data_dir=_default_folder(data_dir))).is_prepared()


def class_names(spec, data_dir=None, label_kind="class"):
    """Returns the class names of a source. A `tfds:` dataset is not prepared for this if its metadata has them.

    Args, Raises: As for `open_source`.

    Example:
        >>> from convzoo import data
        >>> len(data.class_names("tfds:imagenet2012"))
        1000
    """
    opener, rest = _opener(spec, label_kind)
    if opener in (open_tfds, open_tfds_detection):
        return tfds_class_names(spec, rest, _default_folder(data_dir), label_kind)
    return open_source(spec, data_dir, label_kind).class_names


def _default_folder(data_dir):
    # TFDS reads TFDS_DATA_DIR only when it is imported.
    return data_dir or os.environ.get("TFDS_DATA_DIR")


def _opener(spec, label_kind):
    """Returns the function that opens a source, and the part of its string after the kind."""
    kind, _, rest = spec.partition(":")
    kinds = _KINDS[label_kind]
    if kind not in kinds:
        others = [_LABELS[other] for other, openers in _KINDS.items() if kind in openers]
        reason = f"has {' or '.join(others)}, not {_LABELS[label_kind]}" if others else "is unknown"
        raise DataError(f"source {spec!r}: {kind!r} {reason}; available: {', '.join(kinds)}")
    return kinds[kind], rest
