"""Drawings of images, label maps, boxes and predictions as PNG files."""

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from convzoo import data
from convzoo.errors import ConfigError, DataError, first_line
from convzoo.files import write_output

_DPI = 80
_MAP_INCHES = 1.1  # side of one image or map in draw_label_maps
_MIN_INCHES, _MAX_INCHES = 1.3, 2.8  # side of one image in draw_grid
_ROW_INCHES = 11.5
_PANELS_PER_ROW = 6  # of draw_matrices
_MATRIX_INCHES, _CELL_INCHES = 0.5, 0.16  # margin of a panel and side of a cell in draw_matrices
_LETTERS_PER_INCH = 16  # of a title
_COLORS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#000000")


def first_images(source: data.Source, split: str, count: int, **settings) -> tuple[np.ndarray, Any]:
    """Returns the first images of `split`, as a network receives them in evaluation, and their labels.

    Args:
        source: The data source.
        split: A split or slice such as "test" or "train[90%:]".
        count: Number of images; corrupt images are left out, and a short split gives fewer, but at least one.
        **settings: Further arguments of `data.eval_dataset`.

    Returns:
        float32 [images, height, width, 3], and labels as in `data.eval_dataset`, arrays [images, ...].

    Raises:
        DataError: Too many images are corrupt, or all of them.
    """
    parts, found = [], 0
    with data.reraise_data_errors():
        batch_size = min(count, source.num_examples(split))
        for batch in data.eval_dataset(source, split, batch_size=batch_size, **settings):
            mask = batch["mask"].numpy() > 0
            part = tf.nest.map_structure(lambda x, mask=mask: x.numpy()[mask], (batch["image"], batch["label"]))
            parts.append(part)
            found += np.count_nonzero(mask)
            if found >= count:
                break
    if not found:
        raise DataError(f"no image of {split} of {source.spec} can be read; check the files")
    return tf.nest.map_structure(lambda *of_parts: np.concatenate(of_parts)[:count], *parts)


def read_image(source: data.Source, split: str, index: int, settings: dict[str, Any]) -> np.ndarray:
    """Returns one image of a split as a network receives it, float32 [height, width, 3].

    Args:
        source, split: The data.
        index: Index of the example in the split.
        settings: Arguments of `data.eval_transform`.
    """
    (example,) = source.read_ordered_example(split, index)
    image = data.decode_image(example["image"]) if example["image"].dtype == "string" else example["image"]
    return data.eval_transform(image, **settings).numpy()


def draw_label_maps(
    images: np.ndarray,
    maps: Mapping[str, np.ndarray],
    num_labels: Mapping[str, int],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    names: Sequence[str] = (),
) -> bytes:
    """Draws each image in a row, with its label maps beside it, one color per label.

    Args:
        images: Normalized images, float [images, height, width, 3].
        maps: Title of a column to integer maps [images, height, width]. Values of `num_labels` or more stay white.
        num_labels: Number of labels of each column.
        mean, std: Normalization of the images, three numbers each, on the scale 0 to 255.
        names: Names of the labels for a legend; none for no legend.

    Returns:
        A PNG file.
    """
    from matplotlib.figure import Figure  # slow to import, and only drawings need it
    from matplotlib.patches import Patch

    size = (_MAP_INCHES * (1 + len(maps)), _MAP_INCHES * len(images) + 0.25)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(images), 1 + len(maps), squeeze=False)
    for row, image in enumerate(_to_rgb(images, mean, std)):
        axes[row, 0].imshow(image)
        for column, (title, column_maps) in enumerate(maps.items(), start=1):
            count = num_labels[title]
            labels = np.ma.masked_greater_equal(column_maps[row], count)
            axes[row, column].imshow(labels, _colormap(count), vmin=-0.5, vmax=count - 0.5, interpolation="nearest")
            if row == 0:
                axes[row, column].set_title(title, fontsize=8, parse_math=False)
    if names:
        colors = _colormap(len(names))
        patches = [Patch(color=colors(label), label=name) for label, name in enumerate(names)]
        figure.legend(handles=patches, loc="outside lower center", ncols=2, fontsize=8)
    return _png(figure, axes)


def draw_boxes(
    images: np.ndarray,
    boxes: Mapping[str, Mapping[str, np.ndarray]],
    names: Sequence[str],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    min_score: float = 0.0,
) -> bytes:
    """Draws each image once for each set of boxes, side by side, one color per class.

    Args:
        images: Normalized images, float [images, height, width, 3].
        boxes: Title of a column to "boxes" [images, slots, 4] (top, left, bottom, right, in units of the image's height
            and width), "classes" [images, slots], "count" [images], and for detections "scores" [images, slots].
        names: Class names; those of the drawn boxes are in the legend.
        mean, std: Normalization of the images, three numbers each, on the scale 0 to 255.
        min_score: Lowest score of a detection that is drawn.

    Returns:
        A PNG file.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch, Rectangle

    height, width = np.clip(np.array(images.shape[1:3]) / _DPI, _MIN_INCHES, _MAX_INCHES)
    columns = len(boxes) * max(1, min(int(_ROW_INCHES / width) // len(boxes), len(images)))
    rows = math.ceil(len(images) * len(boxes) / columns)
    figure = Figure(figsize=(max(width * columns, 2.5), height * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    panels = iter(axes.flat)
    colors, drawn = _colormap(len(names)), set()
    scale = np.tile(images.shape[1:3], 2)
    for index, image in enumerate(_to_rgb(images, mean, std)):
        for title, of_title in boxes.items():
            axis = next(panels)
            axis.imshow(image)
            axis.set_title(title, fontsize=8, parse_math=False)
            for slot in range(of_title["count"][index]):
                score = of_title["scores"][index, slot] if "scores" in of_title else None
                if score is not None and score < min_score:
                    continue
                number = int(of_title["classes"][index, slot])
                drawn.add(number)
                top, left, bottom, right = of_title["boxes"][index, slot] * scale - 0.5
                corner, sides = (left, top), (right - left, bottom - top)
                axis.add_patch(Rectangle(corner, *sides, fill=False, color=colors(number), linewidth=1.2))
                if score is not None:
                    background = {"facecolor": "white", "alpha": 0.6, "pad": 0.3, "linewidth": 0}
                    axis.text(left, top, f"{score:.2f}", fontsize=5, va="top", bbox=background)
    if drawn:
        patches = [Patch(color=colors(number), label=names[number]) for number in sorted(drawn)]
        figure.legend(handles=patches, loc="outside lower center", ncols=3, fontsize=8)
    return _png(figure, axes)


def draw_matrices(matrices: Mapping[str, np.ndarray], row_names: Sequence[str] = ()) -> bytes:
    """Draws matrices side by side as colors on one scale, one panel for each.

    Args:
        matrices: Title of a panel to a float matrix [rows, columns]; NaN stays white.
        row_names: Names of the rows of every matrix; none for no names.

    Returns:
        A PNG file.
    """
    from matplotlib.figure import Figure

    panels = min(_PANELS_PER_ROW, len(matrices))
    lines = math.ceil(len(matrices) / panels)
    rows, columns = (max(matrix.shape[axis] for matrix in matrices.values()) for axis in (0, 1))
    width, height = (_MATRIX_INCHES + _CELL_INCHES * number for number in (columns, rows))
    figure = Figure(figsize=(panels * width + 1.5, lines * height), layout="constrained")
    axes = figure.subplots(lines, panels, squeeze=False)
    low = min(np.nanmin(matrix) for matrix in matrices.values())
    high = max(np.nanmax(matrix) for matrix in matrices.values())
    for axis in axes.flat[len(matrices) :]:
        axis.axis("off")
    for index, (axis, (title, matrix)) in enumerate(zip(axes.flat, matrices.items(), strict=False)):
        image = axis.imshow(matrix, aspect="auto", vmin=low, vmax=high, interpolation="nearest")
        axis.set_title(title, fontsize=8, parse_math=False)
        axis.set_xticks(range(matrix.shape[1]))
        axis.set_yticks(range(len(row_names)), row_names if index % panels == 0 else [""] * len(row_names))
        axis.tick_params(labelsize=6, length=0)
    figure.colorbar(image, ax=axes, fraction=0.05).ax.tick_params(labelsize=6)
    return save_figure(figure)


def draw_grid(images: np.ndarray, titles: Sequence[str], *, mean: Sequence[float], std: Sequence[float]) -> bytes:
    """Draws images in a grid, each below its title.

    Args:
        images: Normalized images, float [images, height, width, 3].
        titles: Title of each image.
        mean, std: Normalization of the images, three numbers each, on the scale 0 to 255.

    Returns:
        A PNG file.
    """
    from matplotlib.figure import Figure

    height, width = np.clip(np.array(images.shape[1:3]) / _DPI, _MIN_INCHES, _MAX_INCHES)
    titles = [textwrap.fill(title, round(width * _LETTERS_PER_INCH)) for title in titles]
    lines = 1 + max(title.count("\n") for title in titles)
    columns = min(int(_ROW_INCHES / width), len(images))
    rows = math.ceil(len(images) / columns)
    figure = Figure(figsize=(columns * (width + 0.1), rows * (height + 0.14 + 0.18 * lines)), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, image, title in zip(axes.flat, _to_rgb(images, mean, std), titles, strict=False):
        axis.imshow(image)
        axis.set_title(title, fontsize=8, parse_math=False)
    return _png(figure, axes)


def label_titles(labels: np.ndarray, names: Sequence[str]) -> list[str]:
    """Returns a title for each label: the class name, or the names and shares of the classes of a mixed image.

    Args:
        labels: Class indices [images], or class shares, float [images, classes].
        names: Class names.

    Example:
        >>> label_titles(np.array([[0.25, 0.75]]), ["cat", "dog"])
        ['dog 0.75, cat 0.25']
    """
    if labels.ndim == 1:
        return [names[label] for label in labels]
    titles = []
    for shares in labels:
        classes = [label for label in np.argsort(-shares, kind="stable") if shares[label] >= 0.005]
        parts = [f"{names[label]} {shares[label]:.2f}" for label in classes]
        titles.append(", ".join(parts) if len(classes) > 1 else names[classes[0]])
    return titles


def write_png(path: str, png: bytes, flag: str = "output") -> None:
    """Writes the PNG file that --`flag` names, local or gs://, and creates its folder.

    Raises:
        ConfigError: It cannot be written.
    """
    try:
        write_output(path, png)
    except (tf.errors.OpError, OSError) as error:
        raise ConfigError(f"cannot write {path!r} ({first_line(error)}); choose another --{flag}") from error


def _to_rgb(images, mean, std):
    """Returns normalized images as RGB values from 0 to 1."""
    return np.clip((images * np.asarray(std) + np.asarray(mean)) / 255, 0, 1)


def _png(figure, axes):
    for axis in axes.flat:
        axis.axis("off")
    return save_figure(figure)


def save_figure(figure) -> bytes:
    """Returns a figure of matplotlib as a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI)
    return file.getvalue()


def _colormap(count):
    """Returns a colormap with one color for each label below `count`."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(_COLORS[:count]) if count <= len(_COLORS) else colormaps["turbo"].resampled(count)
