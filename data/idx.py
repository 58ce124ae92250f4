"""`idx:/path`: a folder in the format of MNIST."""

import gzip
import os
import zlib

import numpy as np
import tensorflow as tf

from convzoo.data.source import array_source
from convzoo.errors import DataError

_PREFIXES = {"train": "train", "test": "t10k"}
_IMAGES_MAGIC = 0x00000803  # uint8, three dimensions
_LABELS_MAGIC = 0x00000801  # uint8, one dimension


def open_idx(spec, folder, data_dir):
    """Opens `idx:/path`, for example Debian's `idx:/usr/share/datasets/fashion-mnist`, and keeps it in memory.

    The folder has `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same with `t10k`, plain or `.gz`.

    Args:
        spec: The whole source string.
        folder: The part after `idx:`.
        data_dir: Unused.

    Returns:
        IndexedSource with splits train and test; its classes are 0 to the highest label.

    Raises:
        DataError: A file is missing or invalid, or the numbers of images and labels differ.

    Example:
        >>> import os, tempfile
        >>> from convzoo import data
        >>> folder = tempfile.mkdtemp()
        >>> for split in ("train", "t10k"):
        ...     for name, shape in (("images-idx3", (2, 1, 1)), ("labels-idx1", (2,))):
        ...         header = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">i4").tobytes()
        ...         tf.io.write_file(os.path.join(folder, f"{split}-{name}-ubyte"), header + b"01")
        >>> data.open_source(f"idx:{folder}").splits
        {'train': 2, 'test': 2}
    """
    del data_dir
    if not tf.io.gfile.isdir(folder):
        raise DataError(f"source {spec!r}: folder {folder!r} does not exist; use idx:/path/to/files")
    arrays = {}
    for split, prefix in _PREFIXES.items():
        images, images_path = _read(spec, folder, f"{prefix}-images-idx3-ubyte", _IMAGES_MAGIC)
        labels, labels_path = _read(spec, folder, f"{prefix}-labels-idx1-ubyte", _LABELS_MAGIC)
        if len(images) != len(labels):
            raise DataError(
                f"{images_path} has {len(images)} images but {labels_path} has {len(labels)} labels; use files of one "
                "dataset"
            )
        arrays[split] = (images[..., np.newaxis], labels)
    num_classes = 1 + max((int(labels.max()) for _, labels in arrays.values() if len(labels)), default=-1)
    if not num_classes:
        raise DataError(f"source {spec!r} has no examples; copy the dataset again")
    return array_source(spec, [str(label) for label in range(num_classes)], arrays)


def _read(spec, folder, name, magic):
    """Reads one IDX file: returns a uint8 array with the shape in its header, and its path."""
    paths = [os.path.join(folder, name), os.path.join(folder, name + ".gz")]
    path = next((path for path in paths if tf.io.gfile.exists(path)), None)
    if path is None:
        raise DataError(f"source {spec!r}: {folder} has neither {name} nor {name}.gz; copy it there")
    with tf.io.gfile.GFile(path, "rb") as file:
        content = file.read()
    if path.endswith(".gz"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path} is not a complete gzip file ({error}); copy it again") from error
    rank = magic & 0xFF
    header_size = 4 + 4 * rank
    found_magic = int.from_bytes(content[:4], "big")
    if len(content) < header_size or found_magic != magic:
        raise DataError(f"{path} starts with 0x{found_magic:08x}, not 0x{magic:08x}; it is not an IDX {name} file")
    shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank)]
    expected, found = int(np.prod(shape, dtype=np.int64)), len(content) - header_size
    if found != expected:
        raise DataError(f"{path} has {found} bytes of data, not {'x'.join(map(str, shape))}={expected}; copy it again")
    return np.frombuffer(content, np.uint8, offset=header_size).reshape(shape), path
