"""Plots of studies as PNG files."""

import io
from collections.abc import Mapping, Sequence

import numpy as np

_DPI = 80
_MARKERS = "os^D"  # a new marker after every ten points, because the colors repeat


def plot_accuracy(points: Mapping[str, tuple[float, Sequence[float]]], x_label: str, y_label: str) -> bytes:
    """Plots one point per name at the mean of its values, with a bar of one sample standard deviation.

    Args:
        points: Name to position on the logarithmic x axis and values; a single value gets no bar.
        x_label, y_label: Labels of the axes.

    Returns:
        A PNG file.

    Example:
        >>> plot_accuracy({"resnet18": (1.8e9, [69.8, 70.1])}, "multiply-adds", "top-1, %")[1:4]
        b'PNG'
    """
    from matplotlib import colormaps  # slow to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 4.5), layout="constrained")
    axis = figure.subplots()
    colors = colormaps["tab10"].colors
    for index, (name, (x, values)) in enumerate(points.items()):
        axis.errorbar(
            x,
            np.mean(values),
            np.std(values, ddof=1) if len(values) > 1 else None,
            fmt=_MARKERS[index // len(colors) % len(_MARKERS)],
            color=colors[index % len(colors)],
            capsize=2,
            label=name,
        )
    axis.set_xscale("log")
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    axis.grid(which="both", alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI)
    return file.getvalue()
