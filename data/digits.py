"""`digits`: the handwritten digits of scikit-learn as a TFDS dataset. Needs no network."""

import contextlib
import io
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
    """Opens `digits` or `digits:classes=0-6`, which is prepared on first use, and keeps it in memory (115 KB).

    Args:
        spec: The whole source string.
        options: The part after the colon: `classes=FIRST-LAST` leaves out the other digits.
        data_dir: Folder in which TFDS stores its datasets, or None for its default.

    Returns:
        IndexedSource with splits train (1,438 images of all digits) and test (359).

    Raises:
        DataError: The options are invalid, or the folder cannot be written.

    Example:
        >>> from convzoo import data
        >>> data.open_source("digits").splits
        {'train': 1438, 'test': 359}
    """
    match = re.fullmatch(r"classes=(\d)-(\d)", options or "classes=0-9")
    if match is None or match[1] > match[2]:
        raise DataError(f"source {spec!r}: {options!r} is not classes=FIRST-LAST; use for example digits:classes=0-6")
    first, last = map(int, match.groups())
    # Preparing takes a tenth of a second; the page that TFDS prints about it would hide the program's own output.
    with contextlib.redirect_stdout(io.StringIO()):
        tfds.disable_progress_bar()
        try:
            builder = prepared_builder(spec, lambda: Digits(data_dir=data_dir))
        finally:
            tfds.enable_progress_bar()
    arrays = {}
    for split in ("train", "test"):
        examples = list(tfds.as_numpy(builder.as_dataset(split=split)))
        examples = [example for example in examples if first <= example["label"] <= last]
        labels = np.array([example["label"] for example in examples]) - first
        arrays[split] = (np.stack([example["image"] for example in examples]), labels)
    return array_source(spec, builder.info.features["label"].names[first : last + 1], arrays)
