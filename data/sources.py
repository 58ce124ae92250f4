"""One string names a data set."""

import os

from convzoo.data.digits import open_digits
from convzoo.data.errors import DataError
from convzoo.data.fake import open_fake
from convzoo.data.folder import open_folder
from convzoo.data.idx import open_idx
from convzoo.data.named import open_named

_KINDS = {"digits": open_digits, "fake": open_fake, "folder": open_folder, "idx": open_idx, "tfds": open_named}


def open_source(spec, data_dir=None):
    """Open a data set by its string.

    | string | what |
    |---|---|
    | `digits` | scikit-learn's 1,797 digits, 8x8, no network |
    | `tfds:NAME`, `tfds:NAME/CONFIG:VERSION` | TensorFlow Datasets, prepared on first use |
    | `folder:/path` | pictures as /path/SPLIT/CLASS/picture.jpg |
    | `idx:/path` | a folder in the format of MNIST |
    | `fake`, `fake:classes=10,size=32,examples=256` | noise |

    Args:
        spec: str, from the table.
        data_dir: str or None, where TFDS keeps its data sets (`tfds` and `digits`); None: TFDS_DATA_DIR, else
            ~/tensorflow_datasets.

    Returns:
        Source.

    Raises:
        DataError: the kind is unknown, or the data are not there or not what they should be.
    """
    kind, _, rest = spec.partition(":")
    if kind not in _KINDS:
        raise DataError(f"source {spec!r}: unknown kind {kind!r}; the kinds are {', '.join(_KINDS)}")
    # TFDS reads TFDS_DATA_DIR once, when it is imported; here it counts as it is now.
    return _KINDS[kind](spec, rest, data_dir or os.environ.get("TFDS_DATA_DIR"))
