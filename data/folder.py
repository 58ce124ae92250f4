"""`folder:/path`: images in one folder per class."""

import os
import random

import numpy as np
import tensorflow as tf

from convzoo.data.source import IndexedSource, on_host
from convzoo.errors import DataError

_EXTENSIONS = (".jpg", ".jpeg", ".png")
_LAYOUT = "/path/SPLIT/CLASS/image.jpg, for example /path/train/cat/1.jpg"


def open_folder(spec, folder, data_dir):
    """Opens `folder:/path` with images `/path/SPLIT/CLASS/image` (.jpg, .jpeg, .png), as tfds.ImageFolder does.

    tfds.ImageFolder itself can neither slice a split nor skip an image without reading it.

    Args:
        spec: The whole source string.
        folder: The part after `folder:`.
        data_dir: Unused.

    Returns:
        IndexedSource with one split per folder; its classes are the sorted names of all splits. The fixed order of a
        split is shuffled once, so that `train[:10%]` contains all classes.

    Raises:
        DataError: The folder does not exist or has another layout.

    Example:
        >>> import os, tempfile
        >>> from convzoo import data
        >>> folder = tempfile.mkdtemp()
        >>> os.makedirs(os.path.join(folder, "train", "cat"))
        >>> png = tf.io.encode_png(tf.zeros([8, 8, 3], tf.uint8))
        >>> tf.io.write_file(os.path.join(folder, "train", "cat", "1.png"), png)
        >>> data.open_source(f"folder:{folder}").class_names
        ['cat']
    """
    del data_dir
    if not tf.io.gfile.isdir(folder):
        raise DataError(f"source {spec!r}: folder {folder!r} does not exist; use folder:/path/to/folder")
    images = {}  # of each split and class
    for split in _subfolders(folder):
        classes = _subfolders(os.path.join(folder, split))
        if not classes and _images(os.path.join(folder, split)):
            raise DataError(f"source {spec!r}: {split!r} has images but no class folders; the layout is {_LAYOUT}")
        images[split] = {name: _images(os.path.join(folder, split, name)) for name in classes}
    class_names = sorted({name for classes in images.values() for name, paths in classes.items() if paths})
    if not class_names:
        raise DataError(f"source {spec!r} has no images ({', '.join(_EXTENSIONS)}); the layout is {_LAYOUT}")

    paths, labels, splits = [], [], {}
    for split, classes in images.items():
        examples = [(path, class_names.index(name)) for name, paths_ in classes.items() for path in paths_]
        random.Random(split).shuffle(examples)
        splits[split] = len(examples)
        paths += [path for path, _ in examples]
        labels += [label for _, label in examples]
    path_tensor, label_tensor = on_host(paths), on_host(np.array(labels, np.int64))

    def read_row(row):
        return {"image": tf.io.read_file(tf.gather(path_tensor, row)), "label": tf.gather(label_tensor, row)}

    return IndexedSource(spec, class_names, splits, read_row, row_name=paths.__getitem__)


def _subfolders(folder):
    """Returns the sorted names of the folders in a folder, without hidden ones. Names on gs:// end in a slash."""
    names = (name.rstrip("/") for name in tf.io.gfile.listdir(folder))
    return sorted(name for name in names if name[0] != "." and tf.io.gfile.isdir(os.path.join(folder, name)))


def _images(folder):
    """Returns the sorted paths of the images in a folder."""
    names = tf.io.gfile.listdir(folder)
    return sorted(os.path.join(folder, name) for name in names if name.lower().endswith(_EXTENSIONS))
