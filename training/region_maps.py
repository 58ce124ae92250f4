"""Region maps of networks with region-aware convolutions (DRConv, arXiv 2003.12243)."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from convzoo import data, models
from convzoo.models.region_masks import masks
from convzoo.tasks.drawing import draw_label_maps, first_images

NUM_IMAGES = 16  # images from which the shares of the regions are computed
NUM_DRAWN = 4  # of these, images drawn in TensorBoard
DOMINANT_SHARE = 0.99  # a region with a larger share of the pixels leaves the other regions unused


class RegionMaps:
    """Computes the region maps that a network assigns to images.

    Args:
        model: The network, built in the strategy's scope.
        strategy: The distribution strategy.

    Attributes:
        regions: Number of regions of each block with a mask, by block name.
    """

    def __init__(self, model: keras.Model, strategy: tf.distribute.Strategy):
        with strategy.scope():
            self._model = models.region_maps(model)
        self.regions = {name: mask.regions for name, mask in masks(model).items()}
        self._strategy = strategy
        self._compiled = tf.function(lambda images: strategy.run(self._model, args=(images,)))

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the region indices [images, height, width] of each block for normalized images."""
        maps = self._compiled(tf.constant(images))
        # Every replica computes the maps of all images.
        return {name: self._strategy.experimental_local_results(maps[name])[0].numpy() for name in self.regions}

    def shares(self, maps: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns each region's share of the pixels, [regions], by block name."""
        return {
            name: np.bincount(maps[name].ravel(), minlength=count) / maps[name].size
            for name, count in self.regions.items()
        }

    def summarize(
        self, source: data.Source, split: str, settings: Mapping[str, Any]
    ) -> tuple[dict[str, float], bytes, list[str]]:
        """Summarizes the region maps of the first images of a split for TensorBoard.

        Args:
            source: The data source.
            split: Name of the split.
            settings: Arguments of `data.eval_dataset`.

        Returns:
            Each region's share of the pixels by "regions/BLOCK/REGION"; a drawing of some maps as a PNG file; the names
            of the blocks in which one region covers almost all pixels.
        """
        images, _ = first_images(source, split, NUM_IMAGES, **settings)
        maps = self(images)
        shares = self.shares(maps)
        drawn = {name: block_maps[:NUM_DRAWN] for name, block_maps in maps.items()}
        png = draw_label_maps(images[:NUM_DRAWN], drawn, self.regions, mean=settings["mean"], std=settings["std"])
        scalars = {f"regions/{name}/{index}": share for name in shares for index, share in enumerate(shares[name])}
        return scalars, png, [name for name, block in shares.items() if max(block) > DOMINANT_SHARE]
