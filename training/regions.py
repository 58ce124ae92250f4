"""What the masks of region-aware networks (DRConv, arXiv 2003.12243) divide pictures into: maps, shares, drawings."""

import io
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from convzoo import data, models
from convzoo.models.regions import masks

WATCHED = 16  # pictures that the shares are of
DRAWN = 4  # of them, in TensorBoard
ALMOST_ALL = 0.99  # a region's share of the pixels that leaves nothing to the others
_INCH = 1.1  # side of one map in a drawing
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#000000")


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


def first_pictures(source: data.Source, split: str, count: int, **inputs) -> np.ndarray:
    """The first `count` pictures of `split`, or all if it has fewer, as a network gets them.

    Args:
        source: The data source.
        split: As "test" or "train[90%:]".
        count: At most so many.
        **inputs: Size and normalisation, as `data.eval_dataset` takes them.

    Returns:
        float32 [pictures, height, width, 3].
    """
    batch = next(iter(data.eval_dataset(source, split, batch_size=count, **inputs)))
    return batch["image"].numpy()[batch["mask"].numpy() > 0]


def draw(
    pictures: np.ndarray,
    maps: Mapping[str, np.ndarray],
    regions: Mapping[str, int],
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> bytes:
    """A PNG file: each picture in a row, and beside it the region map of every block, one colour a region.

    Args:
        pictures: Normalised, float [pictures, height, width, 3].
        maps: Of each block, [pictures, height, width] of region numbers.
        regions: Number of regions of each block.
        mean, std: Of the normalisation, on the scale 0 to 255.
    """
    # Here, because only drawings need it and it takes a while to load.
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_INCH * (1 + len(maps)), _INCH * len(pictures) + 0.25), layout="constrained")
    axes = figure.subplots(len(pictures), 1 + len(maps), squeeze=False)
    shown = np.clip((pictures * np.asarray(std) + np.asarray(mean)) / 255, 0, 1)
    for row, picture in enumerate(shown):
        axes[row, 0].imshow(picture)
        for column, (name, of_block) in enumerate(maps.items(), start=1):
            m = regions[name]
            colours = ListedColormap(_COLOURS[:m]) if m <= len(_COLOURS) else colormaps["turbo"].resampled(m)
            axes[row, column].imshow(of_block[row], colours, vmin=-0.5, vmax=m - 0.5, interpolation="nearest")
            if row == 0:
                axes[row, column].set_title(name, fontsize=8)
    for axis in axes.flat:
        axis.axis("off")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=80)
    return file.getvalue()
