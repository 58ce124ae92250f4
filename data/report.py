"""What users should know about their data before a long training."""

import unicodedata

import numpy as np

_LISTED = 5


def describe_splits(source, train_split, eval_split=None):
    """Returns lines about the images that a training uses.

    Args:
        source: Source.
        train_split: str, as for `Source.ranges`.
        eval_split: str, or None without evaluation.

    Returns:
        list of str: the numbers of images and classes of each split, the notes of the source, and warnings of classes
        without a training image.

    Example:
        >>> from convzoo import data
        >>> describe_splits(data.open_source("digits"), "train", "test")
        ['train has 1438 images of 10 classes, test has 359 of 10']
    """
    splits = [split for split in (train_split, eval_split) if split]
    counts = {split: source.label_counts(split) for split in splits}
    numbers = []
    for index, split in enumerate(splits):
        images = f"{source.num_examples(split)}{'' if index else ' images'}"
        present = "" if counts[split] is None else f" of {np.count_nonzero(counts[split])}{'' if index else ' classes'}"
        numbers.append(f"{split} has {images}{present}")
    lines = [", ".join(numbers), *source.notes]
    if counts[train_split] is not None:
        missing = [name for name, count in zip(source.class_names, counts[train_split], strict=True) if not count]
        if missing:
            listed = ", ".join(_with_similar(name, source.class_names) for name in missing[:_LISTED])
            more = f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
            lines.append(
                f"warning: {len(missing)} of {source.num_classes} classes have no image in {train_split} and cannot be "
                f"learned: {listed}{more}"
            )
    return lines


def describe_pairs(source, split):
    """Returns lines about the images and pairs that an evaluation uses.

    Args:
        source: PairedSource.
        split: str, as for `Source.ranges`.

    Example:
        >>> from convzoo import data
        >>> describe_pairs(data.open_paired_source("digits", num_pairs=100), "test")
        ['test of digits has 359 images, 50 pairs of one identity and 50 of two']
    """
    is_same = source.pairs(split).is_same
    pairs = f"{np.count_nonzero(is_same)} pairs of one identity and {np.count_nonzero(~is_same)} of two"
    return [f"{split} of {source.spec} has {source.num_examples(split)} images, {pairs}", *source.notes]


def _with_similar(name, names):
    """Returns the name, with another one from which it differs only in case or in the encoding of accents."""
    key = _fold(name)
    similar = [other for other in names if other != name and _fold(other) == key]
    return f"{name!r} (did you mean {similar[0]!r}?)" if similar else repr(name)


def _fold(name):
    return unicodedata.normalize("NFKC", name).casefold().strip()
