"""Opens a data source by its string. To add a source, write its open function and add it to a table below."""

import os

from convzoo.data.digits import open_digits
from convzoo.data.fake import open_fake
from convzoo.data.folder import open_folder
from convzoo.data.idx import open_idx
from convzoo.data.imagenet_tfrecord import open_tfrecord
from convzoo.data.shapes import open_shapes
from convzoo.data.tfds_source import open_tfds, open_tfds_segmentation, tfds_class_names
from convzoo.errors import DataError

# Functions of (whole string, part after the colon, data_dir) to a Source.
_KINDS = {
    "digits": open_digits,
    "fake": open_fake,
    "folder": open_folder,
    "idx": open_idx,
    "tfds": open_tfds,
    "tfrecord": open_tfrecord,
}
_DENSE_KINDS = {"shapes": open_shapes, "tfds": open_tfds_segmentation}


def open_source(spec, data_dir=None, dense_labels=False):
    """Opens a data source.

    With one label per image:

    | spec | data |
    |---|---|
    | `digits` | scikit-learn's 1,797 digits, 8x8; needs no network |
    | `tfds:NAME`, `tfds:NAME/CONFIG:VERSION` | TensorFlow Datasets; prepared on first use |
    | `folder:/path` | images /path/SPLIT/CLASS/image.jpg |
    | `tfrecord:/path`, `tfrecord:gs://bucket/path/train-*` | ImageNet's classic train-00000-of-01024, ... |
    | `idx:/path` | a folder in the format of MNIST |
    | `fake`, `fake:classes=10,size=32,examples=256` | noise |

    With `dense_labels`, one label per pixel:

    | spec | data |
    |---|---|
    | `shapes`, `shapes:size=64,examples=2048` | generated discs, squares and triangles on noise |
    | `tfds:oxford_iiit_pet` | TensorFlow Datasets: pet, background, border |

    Args:
        spec: str, from the tables.
        data_dir: Folder of TFDS (`tfds`, `digits`) and of cached record counts (`tfrecord`); None for TFDS_DATA_DIR,
            else ~/tensorflow_datasets.
        dense_labels: Whether every pixel has a label.

    Returns:
        Source.

    Raises:
        DataError: The kind is unknown, or the data are missing or invalid.

    Example:
        >>> from convzoo import data
        >>> data.open_source("fake:classes=3,examples=16").num_examples("train[:25%]")
        4
        >>> data.open_source("shapes", dense_labels=True).class_names
        ['background', 'disc', 'square', 'triangle']
    """
    opener, rest = _opener(spec, dense_labels)
    return opener(spec, os.path.expanduser(rest), _default_folder(data_dir))


def class_names(spec, data_dir=None, dense_labels=False):
    """Returns the class names of a source. A `tfds:` dataset is not prepared for this if its metadata has them.

    Args, Raises: As for `open_source`.

    Example:
        >>> from convzoo import data
        >>> len(data.class_names("tfds:imagenet2012"))
        1000
    """
    opener, rest = _opener(spec, dense_labels)
    if opener is open_tfds:
        return tfds_class_names(spec, rest, _default_folder(data_dir))
    return open_source(spec, data_dir, dense_labels).class_names


def _default_folder(data_dir):
    # TFDS reads TFDS_DATA_DIR only when it is imported.
    return data_dir or os.environ.get("TFDS_DATA_DIR")


def _opener(spec, dense_labels):
    """Returns the function that opens a source, and the part of its string after the kind."""
    kind, _, rest = spec.partition(":")
    kinds, other_kinds = (_DENSE_KINDS, _KINDS) if dense_labels else (_KINDS, _DENSE_KINDS)
    if kind not in kinds:
        reason = f"has one label per {'image' if dense_labels else 'pixel'}" if kind in other_kinds else "is unknown"
        raise DataError(f"source {spec!r}: {kind!r} {reason}; available: {', '.join(kinds)}")
    return kinds[kind], rest
