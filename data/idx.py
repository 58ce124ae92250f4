"""`idx:/path`: a folder in the format of MNIST."""

import gzip
import os

import numpy as np
import tensorflow as tf

from convzoo.data.base import array_source
from convzoo.data.errors import DataError

_PREFIXES = {"train": "train", "test": "t10k"}
_IMAGES_MAGIC = 0x00000803  # unsigned bytes, three dimensions
_LABELS_MAGIC = 0x00000801  # unsigned bytes, one dimension


def open_idx(spec, folder, data_dir):
    """Open `idx:/path`, for example Debian's `idx:/usr/share/datasets/fashion-mnist`; kept in memory.

    The folder holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same with `t10k`, plain or `.gz`.

    Args:
        spec: str, the whole source string.
        folder: str, the part behind `idx:`.
        data_dir: unused; the path says all.

    Returns:
        Source with splits train and test; its classes are 0 to the highest label.

    Raises:
        DataError: a file is missing or is no IDX file of that kind, or pictures and labels differ in number.
    """
    del data_dir
    if not tf.io.gfile.isdir(folder):
        raise DataError(f"source {spec!r}: there is no folder {folder!r}; write idx:/path/of/idx/files")
    arrays = {}
    for split, prefix in _PREFIXES.items():
        images, images_path = _read(spec, folder, f"{prefix}-images-idx3-ubyte", _IMAGES_MAGIC)
        labels, labels_path = _read(spec, folder, f"{prefix}-labels-idx1-ubyte", _LABELS_MAGIC)
        if len(images) != len(labels):
            raise DataError(
                f"{images_path} holds {len(images)} pictures but {labels_path} {len(labels)} labels; "
                "take both from the same data set"
            )
        arrays[split] = (images[..., np.newaxis], labels)
    classes = 1 + max((int(labels.max()) for _, labels in arrays.values() if len(labels)), default=-1)
    if not classes:
        raise DataError(f"source {spec!r}: the files hold no examples; copy the data set again")
    return array_source(spec, [str(label) for label in range(classes)], arrays)


def _read(spec, folder, name, magic):
    """Read one IDX file: (uint8 array of the dimensions that its head states, its path)."""
    paths = [os.path.join(folder, name), os.path.join(folder, name + ".gz")]
    path = next((path for path in paths if tf.io.gfile.exists(path)), None)
    if path is None:
        raise DataError(f"source {spec!r}: neither {name} nor {name}.gz is in {folder}; copy it there")
    with tf.io.gfile.GFile(path, "rb") as file:
        content = file.read()
    if path.endswith(".gz"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError) as error:
            raise DataError(f"{path} is not a whole gzip file ({error}); copy it again") from error
    dimensions = magic & 0xFF
    head = 4 + 4 * dimensions
    found = int.from_bytes(content[:4], "big")
    if len(content) < head or found != magic:
        raise DataError(f"{path} begins with 0x{found:08x} where 0x{magic:08x} belongs; it is not an IDX {name} file")
    shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
    size = int(np.prod(shape, dtype=np.int64))
    if len(content) - head != size:
        raise DataError(
            f"{path} states {'x'.join(map(str, shape))} = {size} bytes but holds {len(content) - head}; copy it again"
        )
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape), path
