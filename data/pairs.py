"""Pairs of images for verification: LFW's `pairs.txt`, and pairs generated from images with classes."""

import collections
import os
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from convzoo.data.source import IndexedSource, Source, on_host
from convzoo.errors import DataError, first_line

_LAYOUT = "pairs:/path/images,/path/pairs.txt with images /path/images/NAME/NAME_0001.jpg"
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_MAX_DIGITS = 9


class Pairs(NamedTuple):
    """Pairs of the images of a split.

    Attributes:
        first, second: Numbers of the two images, their positions in the split, int64 [pairs].
        is_same: Whether both images have the same identity, bool [pairs].
        folds: Fold of each pair for cross-validation, counted from 0, int64 [pairs].

    Example:
        >>> from convzoo import data
        >>> data.open_paired_source("digits", num_pairs=6, num_folds=3).pairs("test").folds.tolist()
        [0, 1, 2, 0, 1, 2]
    """

    first: np.ndarray
    second: np.ndarray
    is_same: np.ndarray
    folds: np.ndarray


class PairedSource(Source):
    """The images of a source for evaluation, each of them once, and the pairs of them that verification compares.

    The label of an image of `dataset` is its number, the position in the split. `identities` has the classes by number.
    The images of `shuffled`, for training, have their classes.

    Args:
        source: Source of images with one class each, the identity.
        pairs: Pairs of row numbers, which count through the splits of `source`; None to generate pairs.
        num_pairs: Number of generated pairs, half of them of the same identity. There are fewer if there are not enough
            different ones.
        num_folds: Number of folds of generated pairs.
        seed: Seed of generated pairs.

    Example:
        >>> from convzoo import data
        >>> source = PairedSource(data.open_source("fake:classes=3,size=8,examples=12"), num_pairs=8, num_folds=2)
        >>> pairs = source.pairs("test")
        >>> int(pairs.is_same.sum()), len(pairs.first)
        (4, 8)
    """

    def __init__(
        self, source: Source, pairs: Pairs | None = None, *, num_pairs: int = 6000, num_folds: int = 10, seed: int = 0
    ):
        super().__init__(source.spec, source.class_names, source.splits, "number", source.notes)
        self._source, self._pairs = source, pairs
        self._num_pairs, self._num_folds, self._seed = num_pairs, num_folds, seed
        self._identities = {}

    def identities(self, split: str) -> np.ndarray:
        """Returns the class of each image of a split, int64 [images]."""
        if split not in self._identities:  # some sources read all their files for it
            self._identities[split] = self._source.labels(split)
        return self._identities[split]

    def pairs(self, split: str) -> Pairs:
        """Returns the pairs of a split.

        Raises:
            DataError: The split is invalid or has no pairs of both kinds.
        """
        rows = self._rows(split)
        if len(np.unique(rows)) < len(rows):
            raise DataError(f"split {split!r} of {self.spec!r} has images twice; use parts that do not overlap")
        if self._pairs is None:
            pairs = _generate(self.identities(split), self._num_pairs, self._num_folds, self._seed)
        else:
            pairs = self._pairs_of(rows)
        if not pairs.is_same.any() or pairs.is_same.all():
            raise DataError(
                f"split {split!r} of {self.spec!r} has {np.count_nonzero(pairs.is_same)} pairs of one identity and "
                f"{np.count_nonzero(~pairs.is_same)} of two; both kinds are needed: use identities with two images"
            )
        return pairs

    def _rows(self, split):
        """Returns the row numbers of the images of a split, counted through all splits."""
        first_rows = dict(zip(self.splits, np.cumsum([0, *self.splits.values()]), strict=False))
        return np.concatenate([np.arange(start, stop) + first_rows[name] for name, start, stop in self.ranges(split)])

    def _pairs_of(self, rows):
        """Returns the pairs whose images are both among the rows, with their positions there."""
        numbers = np.full(sum(self.splits.values()), -1)
        numbers[rows] = np.arange(len(rows))
        first, second = numbers[self._pairs.first], numbers[self._pairs.second]
        is_inside = (first >= 0) & (second >= 0)
        return Pairs(*(values[is_inside] for values in (first, second, self._pairs.is_same, self._pairs.folds)))

    def labels(self, split):
        return np.arange(self.num_examples(split))

    def ranges(self, split):
        return self._source.ranges(split)

    def ordered(self, split, shard):
        index, count = shard
        numbers = tf.data.Dataset.range(index, tf.int64.max, count)
        examples = tf.data.Dataset.zip((self._source.ordered(split, shard), numbers))
        return examples.map(lambda example, number: {**example, "label": number})

    def shuffled(self, split, **arguments):
        return self._source.shuffled(split, **arguments)

    def describe_example(self, split, number, **arguments):
        return self._source.describe_example(split, number, **arguments)

    def describe_ordered_example(self, split, position):
        return self._source.describe_ordered_example(split, position)

    def read_ordered_example(self, split, position):
        example = self._source.read_ordered_example(split, position)
        return example.map(lambda example: {**example, "label": tf.constant(position, tf.int64)})


def _generate(identities, num_pairs, num_folds, seed):
    """Returns random pairs of images, half of them of one identity, without duplicates."""
    rng = np.random.default_rng(seed)
    order = np.argsort(identities, kind="stable")
    counts = np.bincount(identities)
    starts = np.cumsum(counts) - counts
    total = len(identities)
    num_same = int((counts.astype(np.int64) * (counts - 1) // 2).sum())
    available = {True: num_same, False: total * (total - 1) // 2 - num_same}
    wanted = min(num_pairs // 2, *available.values())
    # Uniform over all pairs of one identity: an identity with n images has n (n - 1) / 2 of them.
    weights = counts * np.maximum(counts - 1, 0) / max(2 * num_same, 1)
    found = {}
    for is_same in (True, False):
        pairs = np.zeros([0, 2], np.int64)
        while len(pairs) < wanted:
            if is_same:
                identity = rng.choice(len(counts), wanted, p=weights)
                drawn = order[starts[identity] + rng.integers(0, counts[identity], [2, wanted])]
            else:
                drawn = rng.integers(0, total, [2, wanted])
            drawn = np.sort(drawn, 0).T
            has_kind = (identities[drawn[:, 0]] == identities[drawn[:, 1]]) == is_same
            drawn = drawn[has_kind & (drawn[:, 0] != drawn[:, 1])]
            pairs = np.concatenate([pairs, drawn])
            _, first = np.unique(pairs, axis=0, return_index=True)
            pairs = pairs[np.sort(first)]
        found[is_same] = pairs[:wanted]
    pairs = np.concatenate([found[True], found[False]])
    folds = np.tile(np.arange(wanted) % num_folds, 2)
    return Pairs(pairs[:, 0], pairs[:, 1], np.repeat([True, False], wanted), folds)


def open_pairs(spec, location, **arguments):
    """Opens `pairs:IMAGES,PAIRS.txt`: pairs in the format of LFW (http://vis-www.cs.umass.edu/lfw/README.txt).

    The first line has the number of folds, which may be missing for one fold, and the number of pairs of each kind in a
    fold. Then each fold has lines `NAME NUMBER OTHER_NUMBER` of two images of one identity, followed by lines
    `NAME NUMBER OTHER_NAME NUMBER` of two identities. Columns are separated by tabs or spaces. The image `NAME 1` is
    IMAGES/NAME/NAME_0001 with the suffix .jpg, .jpeg, .png, .bmp or .webp; one that does not exist counts as corrupt.

    Args:
        spec: The whole source string.
        location: The part after `pairs:`.
        **arguments: Further arguments of `PairedSource`.

    Returns:
        PairedSource with one split, test.

    Raises:
        DataError: The folder or the file does not exist, or a line has another format.

    Example:
        >>> import os, tempfile
        >>> from convzoo import data
        >>> folder = tempfile.mkdtemp()
        >>> with open(os.path.join(folder, "pairs.txt"), "w") as file:
        ...     _ = file.write("1\\nAnn 1 2\\nAnn 1 Bo 1\\n")
        >>> source = data.open_paired_source(f"pairs:{folder},{folder}/pairs.txt")
        >>> source.splits, source.pairs("test").is_same.tolist()  # the images do not exist
        ({'test': 3}, [True, False])
    """
    folder, comma, path = location.rpartition(",")
    if not comma:
        raise DataError(f"source {spec!r} needs a folder and a file of pairs; use {_LAYOUT}")
    path = os.path.expanduser(path)
    if not tf.io.gfile.isdir(folder):
        raise DataError(f"source {spec!r}: folder {folder!r} does not exist; use {_LAYOUT}")
    names, rows = [], {}

    def row_of(name, number):
        if (name, number) not in rows:
            rows[name, number] = len(rows)
            names.append(name)
        return rows[name, number]

    pairs = [(row_of(*first), row_of(*second), fold) for first, second, fold in _read_pairs(spec, path)]
    class_names = sorted(set(names))
    positions = {name: position for position, name in enumerate(class_names)}
    identities = np.array([positions[name] for name in names], np.int64)
    suffixes = collections.defaultdict(dict)
    for name in class_names:
        person = os.path.join(folder, name)
        for file in tf.io.gfile.listdir(person) if tf.io.gfile.isdir(person) else ():
            stem, suffix = os.path.splitext(file)
            if suffix.lower() in _SUFFIXES:
                suffixes[name][stem] = suffix
    paths, missing = [], 0
    for name, number in rows:
        stem = f"{name}_{number:04d}"
        missing += stem not in suffixes[name]
        paths.append(os.path.join(folder, name, stem + suffixes[name].get(stem, _SUFFIXES[0])))
    path_tensor, label_tensor = on_host(paths), on_host(identities)

    def read_row(row):
        return {"image": tf.io.read_file(tf.gather(path_tensor, row)), "label": tf.gather(label_tensor, row)}

    notes = [f"{missing} of {len(paths)} images do not exist in {folder}"] if missing else []
    source = IndexedSource(
        spec,
        class_names,
        {"test": len(paths)},
        read_row,
        row_name=paths.__getitem__,
        labels=identities,
        notes=notes,
    )
    first, second, folds = np.array(pairs, np.int64).T
    return PairedSource(source, Pairs(first, second, identities[first] == identities[second], folds), **arguments)


def _is_number(text):
    return text.isdecimal() and len(text) <= _MAX_DIGITS


def _read_pairs(spec, path):
    """Yields ((name, number), (name, number), fold) of each pair in a file."""
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            lines = file.read().decode("utf-8-sig").splitlines()
    except (tf.errors.OpError, OSError, UnicodeDecodeError) as error:
        raise DataError(f"source {spec!r}: cannot read {path!r} ({first_line(error)}); use {_LAYOUT}") from error
    rows = [(index, line.split()) for index, line in enumerate(lines, start=1) if line.strip()]
    header = rows[0][1] if rows else []
    if not 1 <= len(header) <= 2 or not all(_is_number(part) and int(part) > 0 for part in header):
        raise DataError(
            f"source {spec!r}: line 1 of {path!r} is {' '.join(header)!r}, not the numbers of folds and of pairs of "
            "each kind, such as '10 300'"
        )
    num_folds, per_kind = map(int, ("1", *header)[-2:])
    if len(rows) - 1 != 2 * num_folds * per_kind:
        raise DataError(
            f"source {spec!r}: {path!r} has {len(rows) - 1} pairs, but its first line says {num_folds} times 2 times "
            f"{per_kind}; correct it"
        )
    for index, (number, parts) in enumerate(rows[1:]):
        fold, is_same = index // (2 * per_kind), index % (2 * per_kind) < per_kind
        first, second = ((parts[0], *parts[1:2]), (parts[0], *parts[2:])) if is_same else (parts[:2], parts[2:])
        pair = [(image[0], int(image[1])) for image in (first, second) if len(image) == 2 and _is_number(image[1])]
        if len(set(pair)) < 2 or (pair[0][0] == pair[1][0]) != is_same:
            expected = "NAME NUMBER OTHER_NUMBER" if is_same else "NAME NUMBER OTHER_NAME NUMBER"
            raise DataError(
                f"source {spec!r}: line {number} of {path!r} is {' '.join(parts)!r}, not {expected}; correct it"
            )
        yield (*pair, fold)
