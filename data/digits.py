"""`digits`: the handwritten digits of scikit-learn as a TFDS dataset. Needs no network."""

import contextlib
import io
import itertools
import re

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from convzoo.data.source import array_source
from convzoo.data.tfds_prepare import prepared_builder
from convzoo.errors import DataError

_CITATION = """\
@misc{alpaydin1998optical,
  author = {Alpaydin, E. and Kaynak, C.},
  title = {Optical Recognition of Handwritten Digits},
  year = {1998},
  howpublished = {UCI Machine Learning Repository},
  doi = {10.24432/C50P49}
}
"""
_OPTIONS = re.compile(r"(?:classes=(\d)-(\d)(?:,halves=([1-9]\d{0,2}))?)?")
_ORIENTATIONS = tuple(
    f"{turn}{flip}" for flip in ("", ", mirrored") for turn in ("", *(f", rotated by {90 * n}" for n in (1, 2, 3)))
)


class Digits(tfds.core.GeneratorBasedBuilder):
    """1,797 handwritten gray digits of 8x8 pixels.

    scikit-learn includes the test part of the UCI set, without the identity of its 13 writers. Every fifth image
    (index % 5 == 4) is in the test split here, so both splits have the same writers: accuracy shows that a network
    learns, not that it generalizes to other writers.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}  # noqa: RUF012 - a class constant of TFDS
    # Without this, TFDS 4.9.10 imports importlib_resources, which it does not depend on.
    code_path = epath.Path(__file__)

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description="The 1,797 handwritten digits of scikit-learn: 8x8 pixels, gray, ten classes.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
            citation=_CITATION,
            disable_shuffling=True,  # keeps scikit-learn's order
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing to download
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        # Pixels count the dark pixels of a 4x4 cell, 0 to 16.
        images = np.round(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
        is_test = np.arange(len(labels)) % 5 == 4
        return {
            "train": self._generate_examples(images, labels, np.flatnonzero(~is_test)),
            "test": self._generate_examples(images, labels, np.flatnonzero(is_test)),
        }

    def _generate_examples(self, images, labels, indices):
        for index in indices:
            yield int(index), {"image": images[index], "label": int(labels[index])}


def open_digits(spec, options, data_dir):
    """Opens `digits`, `digits:classes=0-6` or `digits:classes=0-6,halves=24`, and keeps its images in memory.

    The digits (115 KB) are prepared on first use.

    Args:
        spec: The whole source string.
        options: The part after the colon: `classes=FIRST-LAST` leaves out the other digits; `halves=N` replaces the
            digits by N images of each class of halves, see `_make_halves`. The split test has a quarter as many.
        data_dir: Folder in which TFDS stores its datasets, or None for its default.

    Returns:
        IndexedSource with splits train (1,438 images of all digits) and test (359).

    Raises:
        DataError: The options are invalid, or the folder cannot be written.

    Example:
        >>> from convzoo import data
        >>> data.open_source("digits").splits
        {'train': 1438, 'test': 359}
        >>> source = data.open_source("digits:classes=0-1,halves=8")
        >>> source.class_names[:2], source.splits
        (['0 above 0', '0 above 0, rotated by 90'], {'train': 512, 'test': 128})
    """
    match = _OPTIONS.fullmatch(options)
    first, last = (int(match[1] or 0), int(match[2] or 9)) if match else (1, 0)
    if first > last:
        raise DataError(
            f"source {spec!r}: {options!r} is not classes=FIRST-LAST or classes=FIRST-LAST,halves=N, N from 1 to 999; "
            "use for example digits:classes=0-6"
        )
    # Preparing takes a tenth of a second; the page that TFDS prints about it would hide the program's own output.
    with contextlib.redirect_stdout(io.StringIO()):
        tfds.disable_progress_bar()
        try:
            builder = prepared_builder(spec, lambda: Digits(data_dir=data_dir))
        finally:
            tfds.enable_progress_bar()
    names = builder.info.features["label"].names[first : last + 1]
    arrays = {}
    for split in ("train", "test"):
        examples = list(tfds.as_numpy(builder.as_dataset(split=split)))
        examples = [example for example in examples if first <= example["label"] <= last]
        labels = np.array([example["label"] for example in examples]) - first
        arrays[split] = (np.stack([example["image"] for example in examples]), labels)
    if match[3]:
        per_class = {"train": int(match[3]), "test": -(-int(match[3]) // 4)}
        arrays = {split: _make_halves(*arrays[split], len(names), per_class[split]) for split in arrays}
        names = [
            f"{a} {relation} {b}{orientation}"
            for a, b, relation, orientation in itertools.product(names, names, ("above", "beside"), _ORIENTATIONS)
        ]
    return array_source(spec, names, arrays)


def _make_halves(images, labels, num_classes, examples):
    """Returns images that join halves of two digits, and their labels: many classes out of few digits.

    A class is a digit, the digit whose lower or right half replaces its own, and one of eight orientations. The digits
    are drawn with a fixed seed.

    Args:
        images: Square uint8 images [n, size, size, 1].
        labels: Their digits, counted from 0, [n].
        num_classes: Number of digits.
        examples: Images of each class.
    """
    random = np.random.RandomState(0)  # its numbers never change, unlike those of newer generators
    rows, half, made = [np.flatnonzero(labels == digit) for digit in range(num_classes)], images.shape[1] // 2, []
    for digits in itertools.product(range(num_classes), repeat=2):
        for axis in (1, 2):
            for orientation in range(len(_ORIENTATIONS)):
                first, second = (images[random.choice(rows[digit], examples)] for digit in digits)
                first, second = np.split(first, [half], axis)[0], np.split(second, [half], axis)[1]
                image = np.rot90(np.concatenate([first, second], axis), orientation % 4, axes=(1, 2))
                made.append(image[:, :, ::-1] if orientation >= 4 else image)
    return np.concatenate(made), np.repeat(np.arange(len(made)), examples)
