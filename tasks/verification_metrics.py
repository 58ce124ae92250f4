"""Metrics of verification: whether the scores of pairs tell images of one identity from images of two."""

import numpy as np

FALSE_ACCEPT_RATES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
_ROWS = 1024  # of a matrix of cosines at a time


def pair_metrics(scores: np.ndarray, is_same: np.ndarray, folds: np.ndarray) -> dict[str, float]:
    """Computes the metrics of LFW and of face recognition from the scores of pairs.

    Args:
        scores: Similarity of the images of each pair, float [pairs].
        is_same: Whether they have one identity, bool [pairs]; both kinds must occur.
        folds: Fold of each pair, int [pairs].

    Returns:
        A dict with

        - "accuracy": share of pairs on the right side of a threshold, the mean over folds. The threshold of a fold is
          the best one of the other folds (LFW's protocol). With one fold, it is the best one of that fold;
        - "accuracy_std": standard deviation over folds;
        - "threshold": mean threshold;
        - "auc": area under the ROC curve;
        - "tar_at_far_1e-3" and so on: largest share of accepted pairs of one identity with a threshold that accepts at
          most this share of the pairs of two; left out where there are too few pairs of two to measure such a share.

    Example:
        >>> scores, is_same = np.array([0.9, 0.8, 0.1, 0.3]), np.array([True, True, False, False])
        >>> pair_metrics(scores, is_same, folds=np.array([0, 1, 0, 1]))["accuracy"]
        1.0
    """
    from sklearn import metrics  # slow to import, and few programs need it

    accuracies, thresholds = [], []
    for fold in np.unique(folds):
        is_test = folds == fold
        is_chosen_on = is_test if is_test.all() else ~is_test
        threshold = best_threshold(scores[is_chosen_on], is_same[is_chosen_on])
        accuracies.append(np.mean((scores[is_test] >= threshold) == is_same[is_test]))
        thresholds.append(threshold)
    false_accepts, true_accepts, _ = metrics.roc_curve(is_same, scores, drop_intermediate=False)
    num_different = np.count_nonzero(~is_same)
    return {
        "accuracy": float(np.mean(accuracies)),
        "accuracy_std": float(np.std(accuracies)),
        "threshold": float(np.mean(thresholds)),
        "auc": float(metrics.auc(false_accepts, true_accepts)),
        **{
            rate_name(rate): float(true_accepts[false_accepts <= rate].max())
            for rate in FALSE_ACCEPT_RATES
            if rate * num_different >= 1
        },
    }


def rate_name(rate: float) -> str:
    """Returns the name of the metric at a false accept rate.

    Example:
        >>> rate_name(1e-3)
        'tar_at_far_1e-3'
    """
    return f"tar_at_far_{rate:.0e}".replace("e-0", "e-")


def best_threshold(scores: np.ndarray, is_same: np.ndarray) -> float:
    """Returns the threshold with the fewest wrong pairs, in the middle between two scores.

    Of several such thresholds it returns the highest.

    Example:
        >>> best_threshold(np.array([0.9, 0.5, 0.1]), np.array([True, True, False]))
        0.3
    """
    order = np.argsort(-scores, kind="stable")
    ordered, same = scores[order], is_same[order]
    # Correct pairs if the first k are accepted. Equal scores cannot be separated.
    correct = np.concatenate([[0], np.cumsum(np.where(same, 1, -1))]) + np.count_nonzero(~same)
    is_boundary = np.concatenate([[True], ordered[1:] < ordered[:-1], [True]])
    count = int(np.argmax(np.where(is_boundary, correct, -1)))
    bounds = np.concatenate([[ordered[0] + 1e-6], ordered, [ordered[-1] - 1e-6]])
    return float((bounds[count] + bounds[count + 1]) / 2)


def rank1(embeddings: np.ndarray, identities: np.ndarray) -> float | None:
    """Returns the rate of rank-1 identification among distractors.

    Each image with another one of its identity is a probe. Its gallery has the next image of its identity and, as
    distractors, all images of other identities. The probe is identified if the image of its own identity has the
    largest cosine.

    Args:
        embeddings: Unit vectors, float [images, size].
        identities: int [images].

    Returns:
        Share of identified probes; None if no identity has two images.

    Example:
        >>> rank1(np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]), np.array([5, 5, 6]))
        1.0
    """
    order = np.argsort(identities, kind="stable")
    embeddings, identities = embeddings[order], identities[order]
    _, starts, counts = np.unique(identities, return_index=True, return_counts=True)
    offsets = np.arange(len(identities)) - np.repeat(starts, counts)
    mates = np.repeat(starts, counts) + (offsets + 1) % np.repeat(counts, counts)
    probes = np.flatnonzero(np.repeat(counts, counts) > 1)
    if not len(probes):
        return None
    num_identified = 0
    for first in range(0, len(probes), _ROWS):
        rows = probes[first : first + _ROWS]
        cosines = embeddings[rows] @ embeddings.T
        is_distractor = identities[rows, np.newaxis] != identities
        distractors = np.where(is_distractor, cosines, -np.inf).max(1)
        num_identified += np.count_nonzero(cosines[np.arange(len(rows)), mates[rows]] > distractors)
    return float(num_identified / len(probes))
