"""Pictures, and beside them maps of what a network sees there."""

import io
from collections.abc import Mapping, Sequence

import numpy as np

from convzoo import data

_INCH = 1.1  # side of one map in a drawing
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#000000")


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
    numbers: Mapping[str, int],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    names: Sequence[str] = (),
) -> bytes:
    """A PNG file: each picture in a row, and beside it its maps, one colour a number.

    Args:
        pictures: Normalised, float [pictures, height, width, 3].
        maps: Of each name, [pictures, height, width] of whole numbers; those beyond `numbers` stay white.
        numbers: Of each name, how many there are, from 0.
        mean, std: Of the normalisation, on the scale 0 to 255.
        names: What the numbers mean, for a legend.
    """
    # Here, because only drawings need it and it takes a while to load.
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    figure = Figure(figsize=(_INCH * (1 + len(maps)), _INCH * len(pictures) + 0.25), layout="constrained")
    axes = figure.subplots(len(pictures), 1 + len(maps), squeeze=False)
    visible = np.clip((pictures * np.asarray(std) + np.asarray(mean)) / 255, 0, 1)
    for row, picture in enumerate(visible):
        axes[row, 0].imshow(picture)
        for column, (name, of_name) in enumerate(maps.items(), start=1):
            m = numbers[name]
            colours = _colours(m)
            shown = np.ma.masked_greater_equal(of_name[row], m)
            axes[row, column].imshow(shown, colours, vmin=-0.5, vmax=m - 0.5, interpolation="nearest")
            if row == 0:
                axes[row, column].set_title(name, fontsize=8)
    for axis in axes.flat:
        axis.axis("off")
    if names:
        colours = _colours(len(names))
        patches = [Patch(color=colours(number), label=name) for number, name in enumerate(names)]
        figure.legend(handles=patches, loc="outside lower center", ncols=2, fontsize=8)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=80)
    return file.getvalue()


def _colours(count):
    """A colour for each number below `count`."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(_COLOURS[:count]) if count <= len(_COLOURS) else colormaps["turbo"].resampled(count)
