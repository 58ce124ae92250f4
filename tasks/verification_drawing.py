"""Drawings of a verification: ROC curve, histogram of scores, and the pairs that are hardest to tell apart."""

from typing import Any

import numpy as np

from convzoo import data
from convzoo.tasks.drawing import draw_grid, read_image, save_figure

_KINDS = (("same identity", True), ("different identities", False))
_BINS = 50
_NUM_HARDEST = 8  # of each kind


def draw_roc(scores: np.ndarray, is_same: np.ndarray) -> bytes:
    """Draws the share of accepted pairs of one identity over that of two, on a logarithmic axis.

    Args:
        scores: Score of each pair, float [pairs].
        is_same: Whether its images have one identity, bool [pairs].

    Returns:
        A PNG file.

    Example:
        >>> draw_roc(np.array([0.9, 0.1, 0.5]), np.array([True, False, False]))[1:4]
        b'PNG'
    """
    from matplotlib.figure import Figure  # slow to import
    from sklearn import metrics

    false_accepts, true_accepts, _ = metrics.roc_curve(is_same, scores)
    figure = Figure(figsize=(5, 4), layout="constrained")
    axis = figure.subplots()
    # The logarithmic axis begins at one accepted pair of two identities.
    lowest = 1 / max(np.count_nonzero(~is_same), 1)
    axis.step(np.maximum(false_accepts, lowest), true_accepts, where="post")
    axis.set_xscale("log")
    axis.set_xlabel("false accept rate")
    axis.set_ylabel("true accept rate")
    axis.set_ylim(0, 1.02)
    axis.grid(which="both", alpha=0.3)
    return save_figure(figure)


def draw_scores(scores: np.ndarray, is_same: np.ndarray) -> bytes:
    """Draws the histogram of the scores of the pairs of one identity and of two; arguments as for `draw_roc`.

    Example:
        >>> draw_scores(np.array([0.9, 0.1, 0.5]), np.array([True, False, False]))[1:4]
        b'PNG'
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4), layout="constrained")
    axis = figure.subplots()
    bins = np.linspace(scores.min(), max(scores.max(), scores.min() + 1e-6), _BINS + 1)
    for label, kind in _KINDS:
        axis.hist(scores[is_same == kind], bins, alpha=0.6, label=label)
    axis.set_xlabel("cosine")
    axis.set_ylabel("pairs")
    axis.legend()
    return save_figure(figure)


def draw_hardest_pairs(
    scores: np.ndarray, pairs: data.Pairs, source: data.PairedSource, split: str, settings: dict[str, Any]
) -> bytes:
    """Draws the pairs of one identity with the lowest scores and those of two with the highest, each below its score.

    Args:
        scores: Score of each pair, float [pairs].
        pairs: The pairs.
        source, split: Source and split of their images.
        settings: Arguments of `data.eval_transform`.

    Returns:
        A PNG file.
    """
    panels, titles = [], []
    for title, kind in _KINDS:
        of_kind = np.flatnonzero(pairs.is_same == kind)
        hardest = of_kind[np.argsort(scores[of_kind] * (1 if kind else -1), kind="stable")][:_NUM_HARDEST]
        for index in hardest:
            images = [
                read_image(source, split, int(numbers[index]), settings) for numbers in (pairs.first, pairs.second)
            ]
            panels.append(np.concatenate(images, 1))
            titles.append(f"{title}: {scores[index]:.2f}")
    return draw_grid(np.stack(panels), titles, mean=settings["mean"], std=settings["std"])
