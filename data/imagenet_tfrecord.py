"""`tfrecord:FOLDER`: TFRecord files in the classic layout of ImageNet."""

import concurrent.futures
import fnmatch
import json
import os
import re
import uuid

import tensorflow as tf
from absl import logging

from convzoo.data.class_names import read_class_names
from convzoo.data.tfrecord_source import TFRecordSource
from convzoo.errors import DataError, first_line

_LAYOUT = "SPLIT-00000-of-01024, SPLIT-00001-of-01024, ..."
_FILE = re.compile(r"(?P<split>.+)-(?P<index>\d{5,})-of-(?P<total>\d{5,})")
_NUM_CLASSES = 1000  # without labels.txt
_CACHE = "tfrecord_counts.json"
_THREADS = 32
_REMOTE_BUFFER_BYTES = 16 * 2**20  # each request to a bucket takes tens of milliseconds


def open_tfrecord(spec, path, data_dir):
    """Opens `tfrecord:FOLDER` or `tfrecord:PATTERN`, such as `tfrecord:gs://bucket/imagenet/train-*`.

    The files are named `SPLIT-00000-of-01024` and so on. Their records are tf.train.Examples with the features
    `image/encoded`, the bytes of an image, `image/class/label`, an int64 from 1 on, and optionally `image/filename`. A
    record with another label counts as corrupt. `labels.txt` in the folder has one class name per line, starting with
    label 1; without it there are 1,000 classes named 1 to 1000.

    The records of a new or changed file are counted once, which reads a remote file completely, and the counts are
    cached in `tfrecord_counts.json`.

    Args:
        spec: The whole source string.
        path: The part after `tfrecord:`: a folder, or a folder and a pattern of file names.
        data_dir: Folder of the cached counts; None for TFDS_DATA_DIR, else ~/tensorflow_datasets.

    Returns:
        TFRecordSource with one split for each split name among the files.

    Raises:
        DataError: There are no such files, some are missing, or one is not a complete TFRecord file.

    Example:
        >>> import os, tempfile
        >>> from convzoo import data
        >>> folder = tempfile.mkdtemp()
        >>> with tf.io.TFRecordWriter(os.path.join(folder, "train-00000-of-00001")) as writer:
        ...     writer.write(b"a serialized tf.train.Example")
        >>> data.open_source(f"tfrecord:{folder}", data_dir=folder).splits
        {'train': 1}
    """
    folder, pattern = (path.rstrip("/"), "*") if path and tf.io.gfile.isdir(path) else os.path.split(path)
    try:
        splits = _find_splits(spec, path, folder, pattern)
    except (OSError, tf.errors.OpError) as error:
        raise DataError(f"source {spec!r}: cannot read folder {folder!r} ({first_line(error)})") from error
    names_path = os.path.join(folder, "labels.txt")
    if tf.io.gfile.exists(names_path):
        class_names = read_class_names(spec, names_path)
    else:
        class_names = [str(label) for label in range(1, _NUM_CLASSES + 1)]
    cache = os.path.join(data_dir or os.path.expanduser("~/tensorflow_datasets"), _CACHE)
    counts = _count_records(spec, [path for paths in splits.values() for path in paths], cache)
    files = {split: [(path, counts[path]) for path in paths] for split, paths in splits.items()}
    return TFRecordSource(
        spec, class_names, files, lambda record: _parse(record, len(class_names)), parse_name=_parse_name
    )


def _parse_name(record):
    """Returns the feature `image/filename` of a record; empty without it."""
    feature = tf.io.FixedLenFeature([], tf.string, default_value="")
    return tf.io.parse_single_example(record, {"image/filename": feature})["image/filename"]


def _parse(record, num_classes):
    """Returns the example of a record; fails without an image or with an invalid label."""
    features = tf.io.parse_single_example(
        record,
        {
            "image/encoded": tf.io.FixedLenFeature([], tf.string),
            "image/class/label": tf.io.FixedLenFeature([], tf.int64),
        },
    )
    label = features["image/class/label"]
    is_valid = tf.debugging.Assert(
        (label >= 1) & (label <= num_classes), [f"image/class/label is not from 1 to {num_classes} but", label]
    )
    with tf.control_dependencies([is_valid]):
        return {"image": features["image/encoded"], "label": label - 1}


def _find_splits(spec, path, folder, pattern):
    """Returns a dict of split name to the paths of its files, in order."""
    names = set(tf.io.gfile.listdir(folder)) if folder and tf.io.gfile.isdir(folder) else set()
    matches = [_FILE.fullmatch(name) for name in sorted(names) if fnmatch.fnmatchcase(name, pattern)]
    totals = {}
    for match in filter(None, matches):
        totals.setdefault(match["split"], set()).add(match["total"])
    if not totals and pattern not in names and not any(mark in pattern for mark in "*?["):
        raise DataError(f"source {spec!r}: folder {path!r} does not exist; use tfrecord:/path/to/files")
    if not totals:
        raise DataError(f"source {spec!r}: {folder!r} has no matching TFRecord files; name them {_LAYOUT}")
    splits = {}
    for split, split_totals in totals.items():
        if len(split_totals) > 1:
            numbers = " and of ".join(str(int(total)) for total in sorted(split_totals))
            raise DataError(f"source {spec!r}: split {split!r} has files of {numbers}; keep those of one set")
        (total,) = split_totals
        expected = [f"{split}-{index:0{len(total)}d}-of-{total}" for index in range(int(total))]
        expected = [name for name in expected if fnmatch.fnmatchcase(name, pattern)]
        missing = [name for name in expected if name not in names]
        if missing:
            raise DataError(
                f"source {spec!r}: {len(missing)} of {len(expected)} files are missing in {folder!r}, such as "
                f"{missing[0]!r}; add them"
            )
        splits[split] = [os.path.join(folder, name) for name in expected]
    return splits


def _count_records(spec, paths, cache):
    """Returns a dict of path to number of records, from the cache file where the file has not changed since."""
    cached = _read_cache(cache)
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as threads:
        stamps = dict(zip(paths, _map_files(spec, threads, _stamp, paths), strict=True))
        counts = {path: cached[_key(path)][-1] for path in paths if cached.get(_key(path), ())[:-1] == stamps[path]}
        unknown = [path for path in paths if path not in counts]
        if any(map(_is_remote, unknown)):
            message = "counting the records of %d files of %s, which reads them completely; caching the counts in %s"
            logging.warning(message, len(unknown), spec, cache)
        counts.update(zip(unknown, _map_files(spec, threads, _count, unknown), strict=True))
    if unknown:
        # Read the cache again: another process may have added files meanwhile.
        _write_cache(cache, _read_cache(cache) | {_key(path): [*stamps[path], counts[path]] for path in unknown})
    return counts


def _map_files(spec, threads, function, paths):
    """Returns [function(path) for path in paths], computed by threads."""

    def call(path):
        try:
            return function(path)
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise DataError(
                f"source {spec!r}: cannot read TFRecord file {path!r} ({first_line(error)}); copy it again"
            ) from error

    try:
        return list(threads.map(call, paths))
    except DataError:
        threads.shutdown(cancel_futures=True)
        raise


def _is_remote(path):
    return "://" in path


def _key(path):
    return path if _is_remote(path) else os.path.abspath(path)


def _stamp(path):
    """Returns [size in bytes, modification time in nanoseconds], which change with the file."""
    stat = tf.io.gfile.stat(path)
    return [stat.length, stat.mtime_nsec]


def _count(path):
    """Returns the number of records of a file."""
    if _is_remote(path):
        records = tf.data.TFRecordDataset(path, buffer_size=_REMOTE_BUFFER_BYTES)
        return int(records.reduce(tf.constant(0, tf.int64), lambda count, _: count + 1))
    size = os.path.getsize(path)
    count = position = 0
    with open(path, "rb", buffering=0) as file:
        while position < size:
            # Format: length uint64, its checksum uint32, data, its checksum uint32.
            position += 16 + int.from_bytes(os.pread(file.fileno(), 8, position), "little")
            count += 1
    if position > size:
        raise ValueError(f"record {count - 1} extends past the end of the file")
    return count


def _read_cache(cache):
    """Returns a dict of key to [bytes, nanoseconds, number of records]; empty if there is no readable cache."""
    try:
        with tf.io.gfile.GFile(cache) as file:
            entries = json.load(file)
    except (OSError, ValueError, tf.errors.OpError):
        return {}
    return entries if isinstance(entries, dict) else {}


def _write_cache(cache, entries):
    """Writes the cache file atomically; only warns if that fails."""
    temporary = f"{cache}.{uuid.uuid4().hex}"
    try:
        tf.io.gfile.makedirs(os.path.dirname(cache))
        with tf.io.gfile.GFile(temporary, "w") as file:
            json.dump(entries, file)
        tf.io.gfile.rename(temporary, cache, overwrite=True)
    except (OSError, tf.errors.OpError) as error:
        logging.warning("cannot cache record counts in %s (%s); set config.data.data_dir", cache, first_line(error))
