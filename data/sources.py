"""One string names a data set."""

import os

from convzoo.data.digits import open_digits
from convzoo.data.errors import DataError
from convzoo.data.fake import open_fake
from convzoo.data.folder import open_folder
from convzoo.data.idx import open_idx
from convzoo.data.named import open_named, open_named_maps
from convzoo.data.shapes import open_shapes
from convzoo.data.tfrecord import open_tfrecord

_KINDS = {
    "digits": open_digits,
    "fake": open_fake,
    "folder": open_folder,
    "idx": open_idx,
    "tfds": open_named,
    "tfrecord": open_tfrecord,
}
_KINDS_OF_MAPS = {"shapes": open_shapes, "tfds": open_named_maps}


def open_source(spec, data_dir=None, maps=False):
    """Open a data set by its string.

    | string | what |
    |---|---|
    | `digits` | scikit-learn's 1,797 digits, 8x8, no network |
    | `tfds:NAME`, `tfds:NAME/CONFIG:VERSION` | TensorFlow Datasets, prepared on first use |
    | `folder:/path` | pictures as /path/SPLIT/CLASS/picture.jpg |
    | `tfrecord:/path`, `tfrecord:gs://bucket/path/train-*` | ImageNet's classic train-00000-of-01024, ... |
    | `idx:/path` | a folder in the format of MNIST |
    | `fake`, `fake:classes=10,size=32,examples=256` | noise |

    With `maps`, of data sets with a label for every pixel:

    | string | what |
    |---|---|
    | `shapes`, `shapes:size=64,examples=2048` | discs, squares and triangles on noise, made here |
    | `tfds:oxford_iiit_pet` | TensorFlow Datasets: pet, background, border |

    Args:
        spec: str, from the table.
        data_dir: str or None, where TFDS keeps its data sets (`tfds` and `digits`) and `tfrecord` what it has counted;
            None: TFDS_DATA_DIR, else ~/tensorflow_datasets.
        maps: bool, whether every pixel is to have a label.

    Returns:
        Source.

    Raises:
        DataError: the kind is unknown, or the data are not there or not what they should be.
    """
    kind, _, rest = spec.partition(":")
    kinds = _KINDS_OF_MAPS if maps else _KINDS
    if kind not in kinds:
        if kind in (*_KINDS, *_KINDS_OF_MAPS):
            has, wanted = ("one label a picture", "pixel") if maps else ("a label for every pixel", "picture")
            raise DataError(f"source {spec!r} has {has}; with one a {wanted} there are {', '.join(kinds)}")
        raise DataError(f"source {spec!r}: unknown kind {kind!r}; the kinds are {', '.join(kinds)}")
    # TFDS reads TFDS_DATA_DIR once, when it is imported; here it counts as it is now.
    return kinds[kind](spec, rest, data_dir or os.environ.get("TFDS_DATA_DIR"))
