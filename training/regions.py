"""What the masks of region-aware networks (DRConv, arXiv 2003.12243) divide pictures into: maps, and shares."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from convzoo import data, models
from convzoo.models.regions import masks
from convzoo.training.drawing import draw, first_pictures

WATCHED = 16  # pictures that the shares are of
DRAWN = 4  # of them, in TensorBoard
ALMOST_ALL = 0.99  # a region's share of the pixels that leaves nothing to the others


class RegionMaps:
    """The maps that a network draws of pictures.

    Args:
        model: The network, built in the strategy's scope.
        strategy: The strategy it was built under.
    """

    def __init__(self, model: keras.Model, strategy: tf.distribute.Strategy):
        with strategy.scope():
            self._maps = models.region_maps(model)
        self.regions = {name: mask.regions for name, mask in masks(model).items()}
        self._strategy = strategy
        self._compiled = tf.function(lambda pictures: strategy.run(self._draw, args=(pictures,)))

    def _draw(self, pictures):
        return self._maps(pictures, training=False)

    def of(self, pictures: np.ndarray) -> dict[str, np.ndarray]:
        """Maps [pictures, height, width] of region numbers, one for each block, of normalised pictures."""
        drawn = self._compiled(tf.constant(pictures))
        # Every replica draws the same pictures.
        return {name: self._strategy.experimental_local_results(drawn[name])[0].numpy() for name in self.regions}

    def shares(self, maps: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Each region's share of the pixels, for each block."""
        return {
            name: np.bincount(maps[name].ravel(), minlength=m) / maps[name].size for name, m in self.regions.items()
        }

    def watch(
        self, source: data.Source, split: str, inputs: Mapping[str, Any]
    ) -> tuple[dict[str, float], bytes, list[str]]:
        """What a person wants to see of a training's masks.

        Args:
            source: The data source.
            split: Whose first pictures are taken.
            inputs: Size and normalisation of the pictures, as `data.eval_dataset` takes them.

        Returns:
            Each region's share of the pixels by "regions/BLOCK/REGION"; a drawing of a few maps, a PNG file; the blocks
            in which one region has almost all pixels.
        """
        pictures, _ = first_pictures(source, split, WATCHED, **inputs)
        maps = self.of(pictures)
        shares = self.shares(maps)
        few = {name: of_block[:DRAWN] for name, of_block in maps.items()}
        drawing = draw(pictures[:DRAWN], few, self.regions, mean=inputs["mean"], std=inputs["std"])
        scalars = {f"regions/{name}/{r}": share for name in shares for r, share in enumerate(shares[name])}
        return scalars, drawing, [name for name, of_block in shares.items() if max(of_block) > ALMOST_ALL]
