"""`folder:/path`: pictures in folders, one per class."""

import os
import random

import numpy as np
import tensorflow as tf

from convzoo.data.base import IndexedSource, on_host
from convzoo.data.errors import DataError

_ENDINGS = (".jpg", ".jpeg", ".png")
_LAYOUT = "/path/SPLIT/CLASS/picture.jpg, for example /path/train/cat/1.jpg"


def open_folder(spec, folder, data_dir):
    """Open `folder:/path`, laid out as `/path/SPLIT/CLASS/picture` (.jpg, .jpeg, .png), as tfds.ImageFolder reads it.

    The paths are listed here and not by tfds.ImageFolder because that can neither slice a split nor skip a picture
    without reading it.

    Args:
        spec: str, the whole source string.
        folder: str, the part behind `folder:`.
        data_dir: unused; the path says all.

    Returns:
        Source with one split per folder, its classes sorted by name over all splits. The fixed order of a split is
        shuffled once and for all, so that `train[:10%]` holds all classes.

    Raises:
        DataError: the folder is missing or not laid out like that.
    """
    del data_dir
    if not tf.io.gfile.isdir(folder):
        raise DataError(f"source {spec!r}: there is no folder {folder!r}; write folder:/path/of/class/folders")
    found = {}
    for split in _folders(folder):
        classes = _folders(os.path.join(folder, split))
        if not classes and _pictures(os.path.join(folder, split)):
            raise DataError(
                f"source {spec!r}: {split!r} holds pictures where class folders belong; lay them out as {_LAYOUT}"
            )
        found[split] = {name: _pictures(os.path.join(folder, split, name)) for name in classes}
    class_names = sorted({name for classes in found.values() for name, pictures in classes.items() if pictures})
    if not class_names:
        raise DataError(f"source {spec!r}: no pictures {', '.join(_ENDINGS)} are laid out as {_LAYOUT}")

    paths, labels, splits = [], [], {}
    for split, classes in found.items():
        examples = [(path, class_names.index(name)) for name, pictures in classes.items() for path in pictures]
        random.Random(split).shuffle(examples)
        splits[split] = len(examples)
        paths += [path for path, _ in examples]
        labels += [label for _, label in examples]
    path_of, label_of = on_host(paths), on_host(np.array(labels, np.int64))
    return IndexedSource(
        spec,
        class_names,
        splits,
        lambda row: {"image": tf.io.read_file(tf.gather(path_of, row)), "label": tf.gather(label_of, row)},
        name_of=paths.__getitem__,
    )


def _folders(folder):
    """Sorted names of the folders in a folder; hidden ones are somebody else's. gs:// names end in a slash."""
    names = (name.rstrip("/") for name in tf.io.gfile.listdir(folder))
    return sorted(name for name in names if name[0] != "." and tf.io.gfile.isdir(os.path.join(folder, name)))


def _pictures(folder):
    """Sorted paths of the pictures in a folder."""
    return sorted(os.path.join(folder, name) for name in tf.io.gfile.listdir(folder) if name.lower().endswith(_ENDINGS))
