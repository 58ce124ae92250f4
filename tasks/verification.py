"""Verification: whether two images show the same identity, which need not be in the training set."""

import dataclasses
from typing import ClassVar

import numpy as np
import tensorflow as tf

from convzoo import data, models
from convzoo.errors import ConfigError, DataError
from convzoo.tasks.task import Task, cross_entropy, percent
from convzoo.tasks.verification_drawing import draw_hardest_pairs, draw_roc, draw_scores
from convzoo.tasks.verification_metrics import FALSE_ACCEPT_RATES, pair_metrics, rank1, rate_name

MARGINS = {"arcface": 0.5, "cosface": 0.35, "softmax": 0.0}
_USUAL = {"scale": 64.0, "margin": 0.5}
_EPSILON = 1e-12  # of squared sines and norms


@dataclasses.dataclass(frozen=True)
class Verification(Task):
    """Learns embeddings by classifying identities, and compares images by the cosine of their embeddings.

    Training minimizes the softmax cross-entropy of `scale` times the cosines of a network of `models.create_embedder`,
    after a margin has made the cosine of the true class smaller: see `with_margin`. Evaluation embeds each image of a
    split once, and compares pairs of them: see `pair_metrics` and `rank1`.

    Attributes:
        embedding_size: See `models.create_embedder`.
        loss: "arcface" (arXiv 1801.07698), "cosface" (arXiv 1801.09414), or "softmax" without a margin.
        margin: Margin of arcface, in radians, or of cosface; None for 0.5 and 0.35.
        scale: Factor of the cosines.
        pairs: Images and pairs of evaluation, see `data.open_paired_source`. None: pairs of the evaluation split of the
            training source.
        num_pairs, num_folds, pair_seed: Generated pairs, see `data.PairedSource`.
        mirror: Whether evaluation and export add the embedding of the mirrored image.

    Raises:
        ConfigError: The loss is unknown, or scale or margin is not a positive number.

    Example:
        >>> Verification(loss="cosface").best_metric
        'accuracy'
    """

    embedding_size: int | None = None
    loss: str = "arcface"
    margin: float | None = None
    scale: float = 64.0
    pairs: str | None = None
    num_pairs: int = 6000
    num_folds: int = 10
    pair_seed: int = 0
    mirror: bool = True

    best_metric: ClassVar = "accuracy"
    best_metric_title: ClassVar = "accuracy"
    train_metric_names: ClassVar = ("accuracy", "cosine")
    prediction_dtypes: ClassVar = {"embeddings": tf.float32, "numbers": tf.int32}

    def __post_init__(self):
        if self.loss not in MARGINS:
            raise ConfigError(f"loss={self.loss!r} is unknown; use one of {', '.join(MARGINS)}")
        for name in ("scale", "margin"):
            value = getattr(self, name)
            if not (name == "margin" and value is None) and not 0 < value < np.inf:
                raise ConfigError(f"{name}={value} is not a positive number; use for example {_USUAL[name]}")

    def build_model(self, config, num_classes, input_shape, overrides):
        return models.create_embedder(
            config.model.name, num_classes, input_shape, embedding_size=self.embedding_size, **overrides
        )

    def losses(self, labels, outputs, label_smoothing=0.0):
        margin = MARGINS[self.loss] if self.margin is None else self.margin
        cosines = outputs["cosines"]
        if margin:
            cosines = with_margin(labels, cosines, margin, is_angle=self.loss == "arcface")
        return cross_entropy(labels, self.scale * cosines, label_smoothing)

    def train_metrics(self, labels, outputs):
        """Returns the accuracy of classification without margin, and the cosine with the true class."""
        cosines = tf.cast(outputs["cosines"], tf.float32)
        correct = tf.equal(tf.argmax(cosines, -1, output_type=labels.dtype), labels)
        return {
            "accuracy": tf.cast(correct, tf.float32),
            "cosine": tf.gather(cosines, labels, batch_dims=1),
        }

    def open_eval_source(self, spec, data_dir=None):
        return data.open_paired_source(
            self.pairs or spec, data_dir, num_pairs=self.num_pairs, num_folds=self.num_folds, seed=self.pair_seed
        )

    def predict(self, model, images):
        outputs = super().predict(model, images)
        if not self.mirror:
            return outputs
        # One after the other, in batches of the given size.
        mirrored = super().predict(model, tf.reverse(images, [2]))
        return {**outputs, "embeddings": outputs["embeddings"] + mirrored["embeddings"]}

    def initial_totals(self, output_shape):
        return {"norm": tf.zeros([])}

    def eval_totals(self, labels, outputs, mask):
        return {"norm": tf.reduce_sum(tf.norm(outputs["embeddings"], axis=-1) * mask)}

    def eval_predictions(self, labels, outputs):
        return {"embeddings": _unit(outputs["embeddings"]), "numbers": labels}

    def eval_metrics(self, totals, predictions, num_examples, source, split):
        pairs, scores = _scores(predictions, source, split)
        identities = source.identities(split)[predictions["numbers"]]
        rate = rank1(predictions["embeddings"], identities)
        return {
            **pair_metrics(scores, pairs.is_same, pairs.folds),
            **({} if rate is None else {"rank1": rate}),
            "pairs": len(scores),
            "embedding_norm": float(totals["norm"] / num_examples) / (2.0 if self.mirror else 1.0),
        }

    def eval_drawings(self, predictions, source, split, settings):
        pairs, scores = _scores(predictions, source, split)
        return {
            "roc": draw_roc(scores, pairs.is_same),
            "scores": draw_scores(scores, pairs.is_same),
            "hardest_pairs": draw_hardest_pairs(scores, pairs, source, split, settings),
        }

    def summary(self, metrics):
        names = {rate: rate_name(rate) for rate in FALSE_ACCEPT_RATES}
        return {
            "accuracy %": f"{percent(metrics['accuracy'])} ± {percent(metrics['accuracy_std'])}",
            **{f"TAR@FAR {rate:g} %": percent(metrics[name]) for rate, name in names.items() if name in metrics},
            "rank-1 %": percent(metrics["rank1"]) if "rank1" in metrics else "",
            "threshold": f"{metrics['threshold']:.3f}",
        }

    def export_outputs(self, outputs, image_sizes):
        return {"embeddings": _unit(outputs["embeddings"])}

    def compare(self, first, second):
        return {"cosines": tf.reduce_sum(first["embeddings"] * second["embeddings"], -1)}


def with_margin(labels: tf.Tensor, cosines: tf.Tensor, margin: float, is_angle: bool) -> tf.Tensor:
    """Returns the cosines with a margin on that of the true class, float32 [batch, classes].

    The cosine of an angle a becomes cos(a) - margin (CosFace) or cos(a + margin) (ArcFace). Beyond a = pi - margin,
    where cos(a + margin) would rise again, ArcFace's code continues with cos(a) - margin sin(margin).

    Args:
        labels: Class indices, int [batch].
        cosines: float [batch, classes].
        margin: In radians for an angle, below pi.
        is_angle: Whether the margin is added to the angle.

    Example:
        >>> with_margin(tf.constant([0]), tf.constant([[0.75, 0.5]]), 0.25, is_angle=False).numpy().tolist()
        [[0.5, 0.5]]
    """
    cosines = tf.cast(cosines, tf.float32)
    true = tf.gather(cosines, labels, batch_dims=1)
    if is_angle:
        # The maximum has the gradient 0 where the sine has an infinite one.
        sines = tf.sqrt(tf.maximum(1.0 - tf.square(true), _EPSILON))
        moved = true * np.cos(margin) - sines * np.sin(margin)
        moved = tf.where(true > -np.cos(margin), moved, true - margin * np.sin(margin))
    else:
        moved = true - margin
    is_true = tf.one_hot(labels, cosines.shape[-1], on_value=True, off_value=False)
    return tf.where(is_true, moved[:, tf.newaxis], cosines)


def _scores(predictions, source, split):
    """Returns the pairs whose images could be decoded, and the cosines of their embeddings."""
    pairs = source.pairs(split)
    rows = np.full(source.num_examples(split), -1)
    rows[predictions["numbers"]] = np.arange(len(predictions["numbers"]))
    is_complete = (rows[pairs.first] >= 0) & (rows[pairs.second] >= 0)
    pairs = data.Pairs(*(values[is_complete] for values in pairs))
    if not pairs.is_same.any() or pairs.is_same.all():
        raise DataError(f"too few images of {split} of {source.spec!r} can be decoded; check the files")
    embeddings = predictions["embeddings"]
    return pairs, np.sum(embeddings[rows[pairs.first]] * embeddings[rows[pairs.second]], -1)


def _unit(embeddings):
    return tf.math.l2_normalize(embeddings, axis=-1, epsilon=_EPSILON)
