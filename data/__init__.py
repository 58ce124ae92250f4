"""Input pipelines: a source of labelled pictures or pixels, and the batches that training and evaluation read from it.

source = data.open_source("digits")
batches = data.train_dataset(source, "train", image_size=(32, 32), mean=(127.5,) * 3, std=(127.5,) * 3,
                             batch_size=64, seed=0)
"""

from convzoo.data.augmentation import Augmentation
from convzoo.data.base import IGNORED, Source
from convzoo.data.broken import input_errors
from convzoo.data.errors import DataError
from convzoo.data.pipeline import check_pictures, eval_dataset, num_eval_batches, train_dataset
from convzoo.data.service import check_servers, silent_servers, watched_servers
from convzoo.data.sources import open_source
from convzoo.data.transforms import decode_image, eval_transform

__all__ = [
    "IGNORED",
    "Augmentation",
    "DataError",
    "Source",
    "check_pictures",
    "check_servers",
    "decode_image",
    "eval_dataset",
    "eval_transform",
    "input_errors",
    "num_eval_batches",
    "open_source",
    "silent_servers",
    "train_dataset",
    "watched_servers",
]
