"""What networks see in pictures, and what studies found, drawn as PNG files."""

import io
import math
import os
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from convzoo import data
from convzoo.training.config import ConfigError, first_line

_DPI = 80
_INCH = 1.1  # side of one map in a drawing
_SMALLEST, _LARGEST = 1.3, 2.8  # sides of one picture in a grid, in inches
_WIDTH = 11.5  # of a row, in inches
_LETTERS = 16  # of a title in an inch
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#000000")
_MARKS = "os^D"  # of the first ten points of a scatter, of the second, ...


def first_pictures(source: data.Source, split: str, count: int, **inputs) -> tuple[np.ndarray, np.ndarray]:
    """The first `count` pictures of `split`, or all if it has fewer, as a network gets them, and their labels.

    Args:
        source: The data source.
        split: As "test" or "train[90%:]".
        count: At most so many.
        **inputs: Size and normalisation and what else `data.eval_dataset` takes.

    Returns:
        float32 [pictures, height, width, 3] and int32 [pictures, ...]; without those that are broken.

    Raises:
        data.DataError: More pictures are broken than may be.
    """
    with data.input_errors():
        batch = next(iter(data.eval_dataset(source, split, batch_size=count, **inputs)))
    there = batch["mask"].numpy() > 0
    return batch["image"].numpy()[there], batch["label"].numpy()[there]


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
    for row, picture in enumerate(_visible(pictures, mean, std)):
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
    return _png(figure)


def titles_of(labels: np.ndarray, names: Sequence[str]) -> list[str]:
    """What pictures show: the name of each one's class; of mixed ones those of both with their shares, larger first.

    Args:
        labels: Whole numbers [pictures], or shares of the classes, float [pictures, classes].
        names: Of the classes.
    """
    if labels.ndim == 1:
        return [names[label] for label in labels]
    found = []
    for shares in labels:
        # What would be told as 0.00 is not told.
        classes = [number for number in np.argsort(-shares, kind="stable") if shares[number] >= 0.005]
        told = [f"{names[number]} {shares[number]:.2f}" for number in classes]
        found.append(", ".join(told) if len(classes) > 1 else names[classes[0]])
    return found


def grid(pictures: np.ndarray, titles: Sequence[str], *, mean: Sequence[float], std: Sequence[float]) -> bytes:
    """A PNG file: pictures in rows, each below its title.

    Args:
        pictures: Normalised, float [pictures, height, width, 3].
        titles: Of each.
        mean, std: Of the normalisation, on the scale 0 to 255.
    """
    from matplotlib.figure import Figure

    height, width = np.clip(np.array(pictures.shape[1:3]) / _DPI, _SMALLEST, _LARGEST)
    titles = [textwrap.fill(title, round(width * _LETTERS)) for title in titles]
    lines = 1 + max(title.count("\n") for title in titles)
    columns = min(int(_WIDTH / width), len(pictures))
    rows = math.ceil(len(pictures) / columns)
    figure = Figure(figsize=(columns * (width + 0.1), rows * (height + 0.1 + 0.14 * lines)), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, picture, title in zip(axes.flat, _visible(pictures, mean, std), titles, strict=False):
        axis.imshow(picture)
        axis.set_title(title, fontsize=8)
    for axis in axes.flat:
        axis.axis("off")
    return _png(figure)


def scatter(points: Mapping[str, tuple[float, Sequence[float]]], across: str, up: str) -> bytes:
    """A PNG file: for each name a point and its mark in the legend, at the mean of its values.

    Args:
        points: Of each name, where it is on the logarithmic axis across, and its values; more than one get a bar of
            one sample standard deviation to both sides.
        across, up: What the axes say.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 4.5), layout="constrained")
    axis = figure.subplots()
    colours = colormaps["tab10"].colors
    for number, (name, (x, values)) in enumerate(points.items()):
        axis.errorbar(
            x,
            np.mean(values),
            np.std(values, ddof=1) if len(values) > 1 else None,
            fmt=_MARKS[number // len(colours) % len(_MARKS)],
            color=colours[number % len(colours)],
            capsize=2,
            label=name,
        )
    axis.set_xscale("log")
    axis.set_xlabel(across)
    axis.set_ylabel(up)
    axis.grid(which="both", alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8)
    return _png(figure)


def write(path: str, png: bytes) -> None:
    """Writes a picture to `path`, local or gs://, and makes its folder.

    Raises:
        ConfigError: It cannot be written there.
    """
    try:
        if folder := os.path.dirname(path):
            tf.io.gfile.makedirs(folder)
        tf.io.write_file(path, png)
    except (tf.errors.OpError, OSError) as error:
        raise ConfigError(f"cannot write {path!r} ({first_line(error)}); choose another --output") from error


def _visible(pictures, mean, std):
    """Normalised pictures as colours from 0 to 1."""
    return np.clip((pictures * np.asarray(std) + np.asarray(mean)) / 255, 0, 1)


def _png(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI)
    return file.getvalue()


def _colours(count):
    """A colour for each number below `count`."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(_COLOURS[:count]) if count <= len(_COLOURS) else colormaps["turbo"].resampled(count)
