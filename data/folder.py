"""`folder:/path`: images in one folder per class."""

import collections
import hashlib
import os

import numpy as np
import tensorflow as tf

from convzoo.data.source import IndexedSource, on_host
from convzoo.errors import DataError

_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
_LAYOUT = "/path/SPLIT/CLASS/image.jpg, for example /path/train/cat/1.jpg"


def open_folder(spec, folder, data_dir):
    """Opens `folder:/path` with images `/path/SPLIT/CLASS/image` (.jpg, .jpeg, .png, .bmp, .gif, .webp).

    tfds.ImageFolder has the same layout. It can neither slice a split nor skip an image without reading it.

    Args:
        spec: The whole source string.
        folder: The part after `folder:`.
        data_dir: Unused.

    Returns:
        IndexedSource with one split per folder; its classes are the sorted names of all splits. The fixed order of a
        split is that of the hashes of `CLASS/image`, so that `train[:10%]` contains all classes. Slices in percent are
        ranges of hashes: an image stays in its slice when others are added or removed, and `train[:10%]` has only about
        a tenth of the images. `notes` says which files were ignored.

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
    images, ignored = {}, collections.defaultdict(collections.Counter)  # of each split: of each class, of each reason
    for split in subfolders(folder):
        path = os.path.join(folder, split)
        classes = subfolders(path)
        stray = list_images(path, ignored[split])
        if stray and not classes:
            raise DataError(f"source {spec!r}: {split!r} has images but no class folders; the layout is {_LAYOUT}")
        ignored[split]["outside class folders"] += len(stray)
        images[split] = {name: list_images(os.path.join(path, name), ignored[split], in_class=True) for name in classes}
    class_names = sorted({name for classes in images.values() for name, paths in classes.items() if paths})
    if not class_names:
        raise DataError(f"source {spec!r} has no images ({', '.join(_EXTENSIONS)}); the layout is {_LAYOUT}")

    label_of = {name: label for label, name in enumerate(class_names)}
    paths, labels, hashes = [], [], {}
    for split, classes in images.items():
        examples = [
            (name_hash(f"{name}/{os.path.basename(path)}"), path, label_of[name])
            for name, class_paths in classes.items()
            for path in class_paths
        ]
        examples.sort()
        hashes[split] = np.array([example[0] for example in examples])
        paths += [path for _, path, _ in examples]
        labels += [label for _, _, label in examples]
    path_tensor, label_tensor = on_host(paths), on_host(np.array(labels, np.int64))

    def read_row(row):
        return {"image": tf.io.read_file(tf.gather(path_tensor, row)), "label": tf.gather(label_tensor, row)}

    splits = {split: len(values) for split, values in hashes.items()}
    return IndexedSource(
        spec,
        class_names,
        splits,
        read_row,
        row_name=paths.__getitem__,
        labels=np.array(labels),
        positions=hashes,
        notes=[_describe_ignored(split, counts) for split, counts in ignored.items() if counts.total()],
    )


def name_hash(name):
    """Returns a number in [0, 1) that is a function of the name."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48


def _describe_ignored(split, counts):
    kinds = ", ".join(f"{number} {kind}" for kind, number in counts.most_common() if number)
    return f"ignored in {split}: {kinds}"


def subfolders(folder):
    """Returns the sorted names of the folders in a folder, without hidden ones."""
    return sorted(name for name, kind in _entries(folder) if kind == "folder")


def _entries(folder):
    """Yields name and kind, "file", "folder" or "other", of what a folder contains, without what is hidden.

    Raises:
        DataError: A name is not valid UTF-8, which TensorFlow requires.
    """
    if "://" in folder:
        for name in tf.io.gfile.listdir(folder):
            name = name.rstrip("/")  # folders end in a slash
            if name[0] != ".":
                is_file = os.path.splitext(name)[1].lower() in _EXTENSIONS  # saves a request for each image
                yield name, "file" if is_file or not tf.io.gfile.isdir(os.path.join(folder, name)) else "folder"
        return
    for entry in os.scandir(folder):
        try:
            entry.name.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"{os.fsencode(entry.path)!r} is not a UTF-8 name; rename it") from error
        if entry.name[0] != ".":
            yield entry.name, "file" if entry.is_file() else "folder" if entry.is_dir() else "other"


def list_images(folder, ignored=None, in_class=False):
    """Returns the sorted paths of the images in a folder, and counts in `ignored` what else there is, by kind."""
    images, ignored = [], collections.Counter() if ignored is None else ignored
    for name, kind in _entries(folder):
        path, extension = os.path.join(folder, name), os.path.splitext(name)[1].lower()
        if kind == "other":
            ignored["broken links and special files"] += 1
        elif kind == "file" and extension in _EXTENSIONS:
            images.append(path)
        elif kind == "file":
            ignored[f"{extension} files" if extension else "files without extension"] += 1
        elif in_class:
            ignored["folders inside class folders"] += 1
    return sorted(images)
