"""Input pipelines: data sources, and the batches that training and evaluation read from them.

Example:
    >>> from convzoo import data
    >>> source = data.open_source("digits")
    >>> normalization = {"mean": (127.5,) * 3, "std": (127.5,) * 3}
    >>> batches = data.train_dataset(source, "train", image_size=(32, 32), batch_size=64, seed=0, **normalization)
    >>> next(iter(batches))["image"].shape
    TensorShape([64, 32, 32, 3])
"""

from convzoo.data.augmentation import Augmentation
from convzoo.data.corrupt import reraise_data_errors
from convzoo.data.decoding import MAX_PIXELS, decode_image
from convzoo.data.pairs import PairedSource, Pairs
from convzoo.data.pipeline import check_images, eval_dataset, num_eval_batches, train_dataset
from convzoo.data.registry import class_names, is_prepared, open_paired_source, open_source
from convzoo.data.relabeled import RelabeledSource
from convzoo.data.report import describe_pairs, describe_splits
from convzoo.data.service import check_servers, unreachable_servers, watch_servers
from convzoo.data.source import IGNORED, LabelKind, Source
from convzoo.data.transforms import eval_transform

__all__ = [
    "IGNORED",
    "MAX_PIXELS",
    "Augmentation",
    "LabelKind",
    "PairedSource",
    "Pairs",
    "RelabeledSource",
    "Source",
    "check_images",
    "check_servers",
    "class_names",
    "decode_image",
    "describe_pairs",
    "describe_splits",
    "eval_dataset",
    "eval_transform",
    "is_prepared",
    "num_eval_batches",
    "open_paired_source",
    "open_source",
    "reraise_data_errors",
    "train_dataset",
    "unreachable_servers",
    "watch_servers",
]
