"""Drawings of a classification: confusion matrix, reliability diagram, and the images with the highest loss."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from convzoo import data
from convzoo.tasks.classification_metrics import CalibrationBins, confusion_matrix
from convzoo.tasks.drawing import draw_grid, read_image, save_figure

_MAX_NUMBERED = 25  # classes of a confusion matrix with numbers
_MAX_NAMED = 60  # with names
_MAX_ROWS = 250  # of a drawing; more would be too small to see
_LETTERS = 24  # of a name


def draw_confusion_matrix(labels: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> bytes:
    """Draws the confusion matrix of the classes that occur among labels or predictions.

    A row has the predictions for the examples of one class, and the color is their share of the row. Few classes have
    names and numbers of examples. More than 250 classes are drawn in blocks of consecutive classes.

    Args:
        labels: Label of each example, int [examples].
        predicted: Predicted class of each example, int [examples].
        names: Name of each class.

    Returns:
        A PNG file.

    Example:
        >>> draw_confusion_matrix(np.array([0, 1, 1]), np.array([0, 1, 0]), ["cat", "dog"])[1:4]
        b'PNG'
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure  # slow to import

    classes = np.unique(np.concatenate([labels, predicted]))
    block = -(-len(classes) // _MAX_ROWS)
    rows, columns = (np.searchsorted(classes, values) // block for values in (labels, predicted))
    counts = confusion_matrix(rows, columns, -(-len(classes) // block))
    examples = counts.sum(1, keepdims=True)
    shares = np.divide(counts, examples, out=np.full(counts.shape, np.nan), where=examples > 0)
    size = len(counts)
    is_named = block == 1 and size <= _MAX_NAMED
    side = np.clip((0.5 if size <= _MAX_NUMBERED else 0.25) * size, 2.0, 12.0)
    figure = Figure(figsize=(side + 3.0, side + 2.0), layout="constrained")
    axis = figure.subplots()
    # A root makes rare confusions visible.
    norm = PowerNorm(1 / 2 if is_named else 1 / 3, 0, 1)
    end = size * block - 0.5
    image = axis.imshow(shares, cmap="Blues", norm=norm, interpolation="nearest", extent=(-0.5, end, end, -0.5))
    if is_named:
        titles = [_shorten(names[number]) for number in classes]
        axis.set_xticks(range(size), titles, rotation=90, fontsize=8)
        axis.set_yticks(range(size), titles, fontsize=8)
    if is_named and size <= _MAX_NUMBERED:
        for row, column in zip(*np.nonzero(counts), strict=True):
            color = "white" if shares[row, column] > 0.4 else "black"
            axis.text(column, row, counts[row, column], ha="center", va="center", fontsize=7, color=color)
    unit = "" if block == 1 else f", in blocks of {block} classes"
    axis.set_xlabel(f"predicted class{unit}")
    axis.set_ylabel(f"true class{unit}")
    figure.colorbar(image, ax=axis, shrink=0.8, label="share of the true class")
    return save_figure(figure)


def draw_reliability_diagram(bins: CalibrationBins) -> bytes:
    """Draws the accuracy of each bin over its confidence, and below it the share of the examples in each bin.

    Args:
        bins: See `calibration_bins`.

    Returns:
        A PNG file.

    Example:
        >>> from convzoo.tasks.classification_metrics import calibration_bins
        >>> draw_reliability_diagram(calibration_bins(np.array([0.25, 0.75]), np.array([False, True])))[1:4]
        b'PNG'
    """
    from matplotlib.figure import Figure

    width = 1 / len(bins.examples)
    centers = (np.arange(len(bins.examples)) + 0.5) * width
    is_used = bins.examples > 0
    figure = Figure(figsize=(4.5, 5.5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.bar(centers[is_used], bins.accuracy[is_used], width, edgecolor="black", linewidth=0.5, label="accuracy")
    upper.plot(
        bins.confidence[is_used], bins.accuracy[is_used], "o", color="black", markersize=3, label="mean confidence"
    )
    upper.plot([0, 1], [0, 1], "--", color="gray", label="calibrated")
    upper.set_title(f"expected calibration error {bins.error:.2%}", fontsize=10)
    upper.set_ylabel("accuracy")
    upper.set_ylim(0, 1.02)
    upper.legend(loc="upper left", fontsize=8)
    lower.bar(centers, bins.examples / bins.examples.sum(), width, edgecolor="black", linewidth=0.5)
    lower.set_xlim(0, 1)
    lower.set_xlabel("confidence")
    lower.set_ylabel("share of examples")
    return save_figure(figure)


def draw_top_losses(
    indices: Sequence[int], titles: Sequence[str], source: data.Source, split: str, settings: dict[str, Any]
) -> bytes:
    """Draws examples of a split as the network receives them, each below its title.

    Args:
        indices: Indices of the examples in the split.
        titles: Title of each.
        source, split: The data.
        settings: Arguments of `data.eval_transform`.

    Returns:
        A PNG file.
    """
    images = np.stack([read_image(source, split, int(index), settings) for index in indices])
    return draw_grid(images, titles, mean=settings["mean"], std=settings["std"])


def _shorten(name):
    name = name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"
    return name.replace("$", r"\$")  # a dollar sign begins a formula
