"""A source with the class indices of another list of classes."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from convzoo.data.source import Source
from convzoo.errors import DataError

_LISTED = 5


class RelabeledSource(Source):
    """A source whose labels are positions in `class_names` instead of its own class indices.

    It lets a network with many classes, such as those of ImageNet, be evaluated on images of a few of them.

    Args:
        source: The source; its classes are matched by name.
        class_names: All classes in the order of the labels.

    Raises:
        DataError: A class of the source is not among `class_names`, or an image has more than one label.

    Example:
        >>> from convzoo import data
        >>> source = data.open_source("fake:classes=3,size=8,examples=20")
        >>> relabeled = RelabeledSource(source, ["9", "2", "1", "0"])
        >>> relabeled.num_classes, sorted({int(x["label"]) for x in relabeled.dataset("train")})
        (4, [1, 2, 3])
    """

    def __init__(self, source: Source, class_names: Sequence[str]):
        if source.label_kind != "class":
            raise DataError(
                f"{source.spec!r} has maps or boxes, which cannot be matched by class names; leave the names out"
            )
        super().__init__(source.spec, class_names, source.splits, notes=source.notes)
        positions = {name: position for position, name in enumerate(class_names)}
        if unknown := [name for name in source.class_names if name not in positions]:
            more = f" and {len(unknown) - _LISTED} more" if len(unknown) > _LISTED else ""
            raise DataError(
                f"{source.spec!r} has classes that the class names lack: {', '.join(unknown[:_LISTED])}{more}; "
                "name the classes as there"
            )
        self._source = source
        self._labels = [positions[name] for name in source.class_names]

    def ranges(self, split):
        return self._source.ranges(split)

    def label_counts(self, split):
        counts = self._source.label_counts(split)
        return None if counts is None else np.bincount(self._labels, counts, self.num_classes).astype(int)

    def example_names(self, split):
        return self._source.example_names(split)

    def _relabel(self, example):
        return {**example, "label": tf.gather(tf.constant(self._labels, tf.int64), example["label"])}

    def read_ordered_example(self, split, position):
        return self._source.read_ordered_example(split, position).map(self._relabel)

    def ordered(self, split, shard):
        return self._source.ordered(split, shard).map(self._relabel)

    def shuffled(self, split, **arguments):
        stream = self._source.shuffled(split, **arguments)
        return stream.map(lambda number, example: (number, self._relabel(example)))

    def describe_example(self, split, number, **arguments):
        return self._source.describe_example(split, number, **arguments)

    def describe_ordered_example(self, split, position):
        return self._source.describe_ordered_example(split, position)
