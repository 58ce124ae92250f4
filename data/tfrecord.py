"""`tfrecord:FOLDER`: TFRecord files in the layout that scripts for ImageNet have always written."""

import concurrent.futures
import fnmatch
import json
import os
import re
import uuid

import tensorflow as tf
from absl import logging

from convzoo.data.errors import DataError, one_line
from convzoo.data.records import RecordSource

_LAYOUT = "files SPLIT-00000-of-01024, SPLIT-00001-of-01024, ..."
_FILE = re.compile(r"(?P<split>.+)-(?P<index>\d{5,})-of-(?P<total>\d{5,})")
_CLASSES = 1000
_COUNTS = "tfrecord_counts.json"
_THREADS = 32
_REMOTE_BUFFER = 16 * 2**20  # bytes asked for at once; every request of a bucket costs tens of milliseconds


def open_tfrecord(spec, rest, data_dir):
    """Open `tfrecord:FOLDER` or `tfrecord:PATTERN`, such as `tfrecord:gs://bucket/imagenet/train-*`.

    The files are `SPLIT-00000-of-01024` and so on; their records are tf.train.Examples with the features
    `image/encoded`, the bytes of a picture, and `image/class/label`, an int64 from 1 on. A record with another label
    fails as a broken picture does. The names of the classes stand in `labels.txt` in the folder, one a line, the first
    that of label 1; without that file there are 1,000 classes named 1 to 1000.

    The records are counted when a file is first seen; the counts are kept in `tfrecord_counts.json`. Files in a bucket
    must be read for that from end to end.

    Args:
        spec: str, the whole source string.
        rest: str, the part behind `tfrecord:`: a folder, or a folder and a pattern of the names to take.
        data_dir: str, where the counts are kept, or None for ~/tensorflow_datasets.

    Returns:
        Source with the splits that were found, and of each the files that the pattern takes.

    Raises:
        DataError: there are no such files, some of a split are missing, or one is no whole TFRecord file.
    """
    folder, pattern = (rest.rstrip("/"), "*") if rest and tf.io.gfile.isdir(rest) else os.path.split(rest)
    try:
        found = _splits(spec, rest, folder, pattern)
    except (OSError, tf.errors.OpError) as error:
        raise DataError(f"source {spec!r}: {folder!r} cannot be read ({one_line(error)}); see to it") from error
    class_names = _class_names(spec, os.path.join(folder, "labels.txt"))
    paths = [path for of_split in found.values() for path in of_split]
    counts = _counts(spec, paths, os.path.join(data_dir or os.path.expanduser("~/tensorflow_datasets"), _COUNTS))
    files = {split: [(path, counts[path]) for path in of_split] for split, of_split in found.items()}
    return RecordSource(spec, class_names, files, lambda record: _parse(record, len(class_names)))


def _parse(record, num_classes):
    """The example of a record; fails for what has no picture or no label of the classes."""
    features = tf.io.parse_single_example(
        record,
        {
            "image/encoded": tf.io.FixedLenFeature([], tf.string),
            "image/class/label": tf.io.FixedLenFeature([], tf.int64),
        },
    )
    label = features["image/class/label"]
    fits = tf.debugging.Assert(
        (label >= 1) & (label <= num_classes), [f"image/class/label is not from 1 to {num_classes} but", label]
    )
    with tf.control_dependencies([fits]):
        return {"image": features["image/encoded"], "label": label - 1}


def _splits(spec, rest, folder, pattern):
    """dict of split name to the paths of its files in their order."""
    has_wildcard = any(mark in pattern for mark in "*?[")
    names = set(tf.io.gfile.listdir(folder)) if folder and tf.io.gfile.isdir(folder) else set()
    matches = [_FILE.fullmatch(name) for name in sorted(names) if fnmatch.fnmatchcase(name, pattern)]
    matches = [match for match in matches if match]
    if not matches and not has_wildcard and pattern not in names:
        raise DataError(f"source {spec!r}: there is no folder {rest!r}; write tfrecord:/path/of/the/files")
    if not matches:
        raise DataError(f"source {spec!r}: {folder!r} holds no such TFRecords; lay them out as {_LAYOUT}")
    found = {}
    for match in matches:
        found.setdefault(match["split"], set()).add(match["total"])
    splits = {}
    for split, totals in found.items():
        if len(totals) > 1:
            raise DataError(
                f"source {spec!r}: {split!r} has files of {' and of '.join(str(int(n)) for n in sorted(totals))}; keep "
                "those of one set"
            )
        (total,) = totals
        width = len(total)
        wanted = [f"{split}-{index:0{width}d}-of-{total}" for index in range(int(total))]
        wanted = [name for name in wanted if fnmatch.fnmatchcase(name, pattern)]
        missing = [name for name in wanted if name not in names]
        if missing:
            raise DataError(
                f"source {spec!r}: {folder!r} lacks {missing[0]!r}, one of {len(missing)} missing files of "
                f"{len(wanted)}; put them there"
            )
        splits[split] = [os.path.join(folder, name) for name in wanted]
    return splits


def _class_names(spec, path):
    """The lines of labels.txt, or the numbers of ImageNet's classes."""
    if not tf.io.gfile.exists(path):
        return [str(label) for label in range(1, _CLASSES + 1)]
    try:
        with tf.io.gfile.GFile(path) as file:
            names = [line.strip() for line in file.read().rstrip().splitlines()]
    except (OSError, UnicodeDecodeError, tf.errors.OpError) as error:
        raise DataError(f"source {spec!r}: {path!r} cannot be read ({one_line(error)}); write it as UTF-8") from error
    if not all(names):
        raise DataError(f"source {spec!r}: {path!r} has an empty line; write the name of one class a line")
    return names


def _counts(spec, paths, cache):
    """dict of path to its number of records: as they stand in the file cache, counted where they do not."""
    known = _cached(cache)
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as threads:
        stamps = dict(zip(paths, _of_all(spec, threads, _stamp, paths), strict=True))
        counts = {path: known[_key(path)][-1] for path in paths if known.get(_key(path), ())[:-1] == stamps[path]}
        unknown = [path for path in paths if path not in counts]
        if any(map(_is_remote, unknown)):
            logging.warning(
                "counting the records of %d files of %s, which are read whole for it; the counts are kept in %s",
                len(unknown),
                spec,
                cache,
            )
        counts.update(zip(unknown, _of_all(spec, threads, _count, unknown), strict=True))
    if unknown:
        # Another process may have written others meanwhile.
        _write_cache(cache, _cached(cache) | {_key(path): [*stamps[path], counts[path]] for path in unknown})
    return counts


def _of_all(spec, threads, function, paths):
    """function(path) of each path, a list, computed by threads."""

    def of_one(path):
        try:
            return function(path)
        except _NotTFRecord as error:
            raise DataError(f"source {spec!r}: {error}; write the file again") from error
        except (OSError, tf.errors.OpError) as error:
            raise DataError(f"source {spec!r}: {path!r} cannot be read ({one_line(error)}); see to it") from error

    try:
        return list(threads.map(of_one, paths))
    except DataError:
        threads.shutdown(cancel_futures=True)
        raise


class _NotTFRecord(Exception):
    """What is wrong with a file."""


def _is_remote(path):
    return "://" in path


def _key(path):
    return path if _is_remote(path) else os.path.abspath(path)


def _stamp(path):
    """What changes with a file: [bytes, nanoseconds of its last change]."""
    stat = tf.io.gfile.stat(path)
    return [stat.length, stat.mtime_nsec]


def _count(path):
    """The number of records of a file."""
    if _is_remote(path):
        records = tf.data.TFRecordDataset(path, buffer_size=_REMOTE_BUFFER)
        try:
            return int(records.reduce(tf.constant(0, tf.int64), lambda count, _: count + 1))
        except tf.errors.DataLossError as error:
            raise _NotTFRecord(f"{path!r} is no whole TFRecord file ({one_line(error)})") from error
    size = os.path.getsize(path)
    count = position = 0
    with open(path, "rb", buffering=0) as file:
        while position < size:
            # A record is its length, uint64, a checksum of that, the record, a checksum of that.
            position += 16 + int.from_bytes(os.pread(file.fileno(), 8, position), "little")
            count += 1
    if position > size:
        raise _NotTFRecord(f"{path!r} is no whole TFRecord file: record {count - 1} goes on behind its end")
    return count


def _cached(cache):
    """dict of key to [bytes, nanoseconds, number of records]; empty where there is none that can be read."""
    try:
        with tf.io.gfile.GFile(cache) as file:
            found = json.load(file)
    except (OSError, ValueError, tf.errors.OpError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_cache(cache, found):
    """Write the counts, or do not: they can be had again."""
    half = f"{cache}.{uuid.uuid4().hex}"
    try:
        tf.io.gfile.makedirs(os.path.dirname(cache))
        with tf.io.gfile.GFile(half, "w") as file:
            json.dump(found, file)
        tf.io.gfile.rename(half, cache, overwrite=True)
    except (OSError, tf.errors.OpError) as error:
        logging.warning(
            "the numbers of records are not kept in %s (%s); set config.data.data_dir", cache, one_line(error)
        )
