"""Plots of trainings and studies as PNG files."""

import io
from collections.abc import Mapping, Sequence

import numpy as np

_DPI = 80
_MARKERS = "os^D"  # a new marker after every ten points, because the colors repeat
_LINES = ("-", "--", ":", "-.")  # likewise of curves


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
    return _png(figure)


def plot_curves(curves: Mapping[str, Mapping[str, Sequence[Sequence[tuple[int, float]]]]], log: bool = False) -> bytes:
    """Plots metrics over steps, one plot for each metric.

    Args:
        curves: Metric to label to runs, each a list of step and value. The runs of a label have one color.
        log: Whether the y axes are logarithmic.

    Returns:
        A PNG file.

    Example:
        >>> plot_curves({"train/loss": {"low rate": [[(1, 2.3), (2, 2.1)], [(1, 2.2), (2, 2.0)]]}})[1:4]
        b'PNG'
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 3.2 * len(curves)), layout="constrained")
    lines = {}
    colors = colormaps["tab10"].colors
    for axis, (metric, of_metric) in zip(
        figure.subplots(len(curves), squeeze=False)[:, 0], curves.items(), strict=True
    ):
        for index, (label, runs) in enumerate(of_metric.items()):
            for points in runs:
                steps, values = zip(*points, strict=True) if points else ((), ())
                (lines[label],) = axis.plot(
                    steps,
                    values,
                    color=colors[index % len(colors)],
                    linestyle=_LINES[index // len(colors) % len(_LINES)],
                    linewidth=1.2,
                )
        if log:
            axis.set_yscale("log")
        axis.set_xlabel("step")
        axis.set_ylabel(metric)
        axis.grid(which="both", alpha=0.3)
    labels = [label.replace("$", r"\$") for label in lines]  # a dollar sign begins a formula
    figure.legend(lines.values(), labels, loc="outside upper center", ncols=3, fontsize=8)
    return _png(figure)


def plot_lr_range(
    learning_rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], suggestion: float | None
) -> bytes:
    """Plots the losses of a learning-rate range test over a logarithmic axis, and a line at the suggested rate.

    Returns:
        A PNG file.

    Example:
        >>> plot_lr_range([1e-4, 1e-3, 1e-2], [2.3, 2.2, 2.5], [2.3, 2.25, 2.3], 1e-3)[1:4]
        b'PNG'
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 4.5), layout="constrained")
    axis = figure.subplots()
    axis.plot(learning_rates, losses, color="lightgray", linewidth=1.0, label="loss")
    axis.plot(learning_rates, smoothed, linewidth=1.5, label="smoothed")
    if suggestion is not None:
        axis.axvline(suggestion, color="tab:red", linestyle="--", linewidth=1.0, label=f"steepest: {suggestion:.2g}")
    height = max(smoothed[0] - min(losses), 0.1)
    axis.set_ylim(min(losses) - 0.1 * height, smoothed[0] + 0.5 * height)  # a diverging loss would hide the rest
    axis.set_xscale("log")
    axis.set_xlabel("learning rate")
    axis.set_ylabel("training loss")
    axis.grid(which="both", alpha=0.3)
    axis.legend()
    return _png(figure)


def _png(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI)
    return file.getvalue()
