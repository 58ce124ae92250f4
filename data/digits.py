"""scikit-learn's scanned digits as a TFDS data set: the data that needs no network."""

import contextlib
import io

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from convzoo.data.base import array_source
from convzoo.data.errors import DataError
from convzoo.data.prepare import prepared_builder

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
    """1,797 handwritten digits, 8x8, grey.

    scikit-learn carries the test part of the UCI set, whose 13 writers it does not name. Every fifth image
    (index % 5 == 4) is our test split, so writers are shared between the splits: accuracy here says how well a network
    learns, not how well it reads the hand of a stranger.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}  # noqa: RUF012 - a class constant of TFDS
    # Said outright: TFDS 4.9.10 would look for it through importlib_resources, which it does not ask pip for.
    code_path = epath.Path(__file__)

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description="The 1,797 handwritten digits that scikit-learn carries: 8x8 pixels, grey, ten classes.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
            citation=_CITATION,
            disable_shuffling=True,  # scikit-learn's order stays
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing to download
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        # The scans count dark pixels of 4x4 cells, 0 to 16.
        images = np.round(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
        held_out = np.arange(len(labels)) % 5 == 4
        return {
            "train": self._generate_examples(images, labels, np.flatnonzero(~held_out)),
            "test": self._generate_examples(images, labels, np.flatnonzero(held_out)),
        }

    def _generate_examples(self, images, labels, indices):
        for index in indices:
            yield int(index), {"image": images[index], "label": int(labels[index])}


def open_digits(spec, options, data_dir):
    """Open `digits`: prepared on first use, then kept in memory (115 KB).

    Args:
        spec: str, the whole source string.
        options: str behind the colon; must be empty.
        data_dir: str, where TFDS keeps its data sets, or None for its own default.

    Returns:
        Source with splits train (1,438) and test (359).

    Raises:
        DataError: options were given, or the folder cannot be written.
    """
    if options:
        raise DataError(f"source {spec!r}: digits takes no options; write digits")
    # TFDS tells a page of what it does; for the tenth of a second that this takes it only hides what the caller says.
    with contextlib.redirect_stdout(io.StringIO()):
        tfds.disable_progress_bar()
        try:
            builder = prepared_builder(spec, lambda: Digits(data_dir=data_dir))
        finally:
            tfds.enable_progress_bar()
    arrays = {}
    for split in ("train", "test"):
        examples = list(tfds.as_numpy(builder.as_dataset(split=split)))
        arrays[split] = (np.stack([e["image"] for e in examples]), np.array([e["label"] for e in examples]))
    return array_source(spec, builder.info.features["label"].names, arrays)
