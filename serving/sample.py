"""Images on which exported models are compared and calibrated."""

import numpy as np

from convzoo import data
from convzoo.data.source import IndexedSource
from convzoo.tasks.drawing import first_images

_NO_NORMALIZATION = {"mean": (0.0,) * 3, "std": (1.0,) * 3}


def sample_images(
    source: data.Source, split: str, count: int, max_corrupt_fraction: float = 0.0, **input_settings
) -> np.ndarray:
    """Returns images of a split, cropped and resized as in evaluation.

    They are spread evenly over the split, because folders are in the order of their classes. A source without random
    access, such as TFRecords, gives its first images: its files were written in random order.

    Args:
        source: The data source.
        split: A split or slice such as "test" or "train[90%:]".
        count: Number of images; a short split gives fewer, but at least one.
        max_corrupt_fraction: Share of corrupt images that are left out without an error.
        **input_settings: Arguments of `data.eval_transform`; the normalization has no effect.

    Returns:
        uint8 [images, height, width, 3].

    Raises:
        DataError: The split does not exist, or too many images are corrupt.

    Example:
        >>> source = data.open_source("fake:classes=3,size=32,examples=16")
        >>> settings = {"image_size": (24, 24), "crop_fraction": 1.0, "interpolation": "bilinear"}
        >>> sample_images(source, "test", 4, **settings).shape
        (4, 24, 24, 3)
    """
    step = max(source.num_examples(split) // count, 1) if isinstance(source, IndexedSource) else 1
    settings = {**input_settings, **_NO_NORMALIZATION, "max_corrupt_fraction": max_corrupt_fraction}
    images, _ = first_images(source, split, count, shard=(0, step), **settings)
    return np.clip(np.round(images), 0, 255).astype(np.uint8)


def generated_images(count: int, image_size: tuple[int, int]) -> np.ndarray:
    """Returns images of geometric shapes, for a comparison without data: uint8 [count, height, width, 3].

    Example:
        >>> generated_images(2, (16, 24)).shape
        (2, 16, 24, 3)
    """
    source = data.open_source(f"shapes:examples={count}", label_kind="map")
    settings = {"image_size": image_size, "crop_fraction": None, "interpolation": "bilinear"}
    return sample_images(source, "train", count, **settings)
