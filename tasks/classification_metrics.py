"""Metrics of a classification that are no sums over batches: by class, by pair of classes, and by confidence."""

from typing import NamedTuple

import numpy as np

NUM_BINS = 15  # of the expected calibration error, as in arXiv 1706.04599


class ClassCounts(NamedTuple):
    """Numbers of examples by class index, int arrays [classes]."""

    examples: np.ndarray
    correct: np.ndarray

    @property
    def accuracy(self) -> np.ndarray:
        """Accuracy of each class, a share of 1, float [classes]; NaN for classes without examples."""
        return np.divide(self.correct, self.examples, out=np.full(len(self.examples), np.nan), where=self.examples > 0)

    def worst_first(self) -> np.ndarray:
        """Indices of the classes with examples, the one with the lowest accuracy first; the larger one of equals."""
        order = np.lexsort((-self.examples, self.accuracy))
        return order[self.examples[order] > 0]


def count_by_class(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> ClassCounts:
    """Counts the examples of each class, and how many of them are predicted correctly.

    Args:
        labels: Label of each example, int [examples].
        predicted: Predicted class of each example, int [examples].
        num_classes: Number of classes.

    Example:
        >>> count_by_class(np.array([0, 0, 1]), np.array([0, 1, 1]), 3).accuracy
        array([0.5, 1. , nan])
    """
    return ClassCounts(
        np.bincount(labels, minlength=num_classes), np.bincount(labels[labels == predicted], minlength=num_classes)
    )


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns the number of examples of each label (row) and predicted class (column), int [classes, classes].

    Unlike that of scikit-learn, it accepts a single class without a warning. Arguments as for `count_by_class`.

    Example:
        >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
        [[1, 1], [0, 1]]
    """
    counts = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def confused_pairs(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Returns the pairs of a label and another predicted class, the most frequent first.

    Args:
        labels, predicted: As for `count_by_class`.

    Returns:
        int [pairs, 3]: label, predicted class, number of examples.

    Example:
        >>> confused_pairs(np.array([0, 0, 1, 2]), np.array([2, 2, 0, 2])).tolist()
        [[0, 2, 2], [1, 0, 1]]
    """
    is_wrong = labels != predicted
    pairs, counts = np.unique(np.stack([labels, predicted], 1)[is_wrong], axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return np.concatenate([pairs, counts[:, np.newaxis]], 1)[order]


class CalibrationBins(NamedTuple):
    """Examples by confidence, arrays [bins]: bin i has the confidences in (i / bins, (i + 1) / bins]."""

    examples: np.ndarray
    confidence: np.ndarray  # mean of the bin; 0 without examples
    accuracy: np.ndarray  # share of 1; 0 without examples

    @property
    def error(self) -> float:
        """Expected calibration error: the mean over examples of |accuracy - confidence| of their bins."""
        return float(np.average(np.abs(self.accuracy - self.confidence), weights=self.examples))


def calibration_bins(confidences: np.ndarray, correct: np.ndarray, num_bins: int = NUM_BINS) -> CalibrationBins:
    """Sorts examples into bins of equal width by their confidence (Guo et al., arXiv 1706.04599, section 2).

    Args:
        confidences: Probability of the predicted class, float [examples].
        correct: Whether it is the label, bool [examples].
        num_bins: Number of bins.

    Example:
        >>> bins = calibration_bins(np.array([0.25, 0.75, 1.0]), np.array([False, True, True]), num_bins=2)
        >>> bins.accuracy.tolist(), bins.confidence.tolist(), round(bins.error, 4)
        ([0.0, 1.0], [0.25, 0.875], 0.1667)
    """
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    indices = np.searchsorted(edges[1:-1], confidences)
    examples = np.bincount(indices, minlength=num_bins)
    confidence, accuracy = (
        np.bincount(indices, values, num_bins) / np.maximum(examples, 1) for values in (confidences, correct)
    )
    return CalibrationBins(examples, confidence, accuracy)
