"""Object detection: any number of boxes per image, each with a class."""

import dataclasses
from typing import ClassVar

import keras
import tensorflow as tf

from convzoo import models
from convzoo.errors import ConfigError
from convzoo.tasks import boxes
from convzoo.tasks.average_precision import average_precision, require_pycocotools
from convzoo.tasks.task import Task, percent

_TRUTH = ("boxes", "classes", "areas", "count", "num_crowds", "size")
_FOUND = ("boxes", "scores", "classes", "count")


@dataclasses.dataclass(frozen=True)
class Detection(Task):
    """Predicts classes and offsets for every anchor of a network of `models.create_detector`.

    The loss of a batch is the sum of the classes' loss over anchors and of the offsets' Huber loss, averaged over four
    coordinates, over anchors that match an object, divided by the number of these anchors. The batch is the part of it
    that a replica processes at once; with gradient accumulation, each part has its own divisor. The metrics are those
    of COCO (`average_precision`) of the detections over the whole split.

    Attributes:
        class_loss: "focal", or "hard_negative" for the original SSD's choice of anchors with sigmoid cross-entropy.
        focal_alpha, focal_gamma: See `boxes.focal_loss`.
        box_loss_weight: Factor of the offsets' loss.
        match_threshold: Lowest IoU of an anchor with its object, see `boxes.match`.
        nms_threshold, score_threshold, max_detections: See `boxes.detect`.

    Raises:
        ConfigError: The loss is unknown or the match threshold is not in (0, 1].

    Example:
        >>> Detection(focal_gamma=1.5).best_metric
        'map'
    """

    class_loss: str = "focal"
    focal_alpha: float = 0.75
    focal_gamma: float = 2.0
    box_loss_weight: float = 1.0
    match_threshold: float = 0.5
    nms_threshold: float = 0.6
    score_threshold: float = 1e-8
    max_detections: int = 100

    label_kind: ClassVar = "boxes"
    best_metric: ClassVar = "map"
    best_metric_title: ClassVar = "mAP"
    train_metric_names: ClassVar = ("accuracy", "class_loss", "box_loss")
    prediction_dtypes: ClassVar = {
        **{f"true_{name}": tf.float32 if name in ("boxes", "areas") else tf.int32 for name in _TRUTH},
        **{f"found_{name}": tf.float32 if name in ("boxes", "scores") else tf.int32 for name in _FOUND},
    }

    def __post_init__(self):
        if self.class_loss not in ("focal", "hard_negative"):
            raise ConfigError(f"class_loss={self.class_loss!r} is unknown; use 'focal' or 'hard_negative'")
        if not 0 < self.match_threshold <= 1:
            raise ConfigError(f"match_threshold={self.match_threshold} is not in (0, 1]")

    def build_model(self, config, num_classes, input_shape, overrides):
        return models.create_detector(
            config.model.name, num_classes, input_shape, **config.detector.to_dict(), **overrides
        )

    def prepare_evaluation(self):
        require_pycocotools()

    def losses(self, labels, outputs, label_smoothing=0.0):
        """Returns the loss of each example, multiplied by the ratio of examples to matched anchors of the batch."""
        classes, offsets, matches = self._losses(labels, outputs)
        return (classes + self.box_loss_weight * offsets) * _examples_per_match(matches)

    def train_metrics(self, labels, outputs):
        """Returns the parts of the loss, and as "accuracy" the share of matched anchors with the right class."""
        classes, offsets, matches = self._losses(labels, outputs)
        ratio = _examples_per_match(matches)
        is_matched, truth = self._match(labels, outputs)[:2]
        correct = is_matched & tf.equal(tf.argmax(outputs["classes"], -1, output_type=tf.int32), truth)
        return {
            "accuracy": tf.reduce_sum(tf.cast(correct, tf.float32), -1) * ratio,
            "class_loss": classes * ratio,
            "box_loss": offsets * ratio,
        }

    def _match(self, labels, outputs):
        """Returns for each anchor whether it has an object, the object's class, and its box."""
        matches = boxes.match(labels["boxes"], labels["count"], outputs["anchors"][0], self.match_threshold)
        indices = tf.maximum(matches, 0)
        classes, of_anchors = (tf.gather(labels[name], indices, batch_dims=1) for name in ("classes", "boxes"))
        return matches >= 0, classes, of_anchors

    def _losses(self, labels, outputs):
        """Returns the classes' loss, the offsets' loss and the number of matched anchors of each example."""
        is_matched, classes, truth = self._match(labels, outputs)
        logits, anchors = outputs["classes"], outputs["anchors"][0]
        targets = tf.one_hot(tf.where(is_matched, classes, -1), logits.shape[-1])
        if self.class_loss == "focal":
            class_losses = boxes.focal_loss(targets, logits, self.focal_alpha, self.focal_gamma)
            class_losses = tf.reduce_sum(class_losses, [1, 2])
        else:
            class_losses = tf.reduce_sum(boxes.hard_negative_loss(targets, logits), -1)
        offset_losses = keras.losses.huber(boxes.encode(truth, anchors), outputs["boxes"])
        weights = tf.cast(is_matched, tf.float32)
        return class_losses, tf.reduce_sum(offset_losses * weights, -1), tf.reduce_sum(weights, -1)

    def initial_totals(self, output_shape):
        return {name: tf.zeros([]) for name in ("loss", "matches")}

    def eval_totals(self, labels, outputs, mask):
        classes, offsets, matches = self._losses(labels, outputs)
        return {
            "loss": tf.reduce_sum((classes + self.box_loss_weight * offsets) * mask),
            "matches": tf.reduce_sum(matches * mask),
        }

    def eval_predictions(self, labels, outputs):
        found = self.detect(outputs)
        return {
            **{f"true_{name}": labels[name] for name in _TRUTH},
            **{f"found_{name}": found[name] for name in _FOUND},
        }

    def detect(self, outputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns the detections of a network's outputs, see `boxes.detect`."""
        return boxes.detect(
            _decode(outputs),
            outputs["classes"],
            iou_threshold=self.nms_threshold,
            score_threshold=self.score_threshold,
            max_detections=self.max_detections,
        )

    def eval_metrics(self, totals, predictions, num_examples, source, split):
        truths = {name: predictions[f"true_{name}"] for name in _TRUTH}
        found = {name: predictions[f"found_{name}"] for name in _FOUND}
        metrics = average_precision(truths, found)
        return {"loss": float(totals["loss"] / max(totals["matches"], 1.0)), "map": 0.0, **metrics}

    def summary(self, metrics):
        return {
            "mAP %": percent(metrics["map"]),
            **{
                title: percent(metrics[name]) if name in metrics else ""
                for title, name in (
                    ("mAP@0.5 %", "map50"),
                    ("mAP@0.75 %", "map75"),
                    ("small %", "map_small"),
                    ("medium %", "map_medium"),
                    ("large %", "map_large"),
                )
            },
            "loss": f"{metrics['loss']:.4f}",
        }

    def summary_tables(self, metrics):
        return [[{"class": name, "mAP %": percent(value)} for name, value in metrics["class_map"].items()]]

    def export_outputs(self, outputs, image_sizes):
        found = self.detect(outputs)
        return {**found, "boxes": _to_pixels(found["boxes"], image_sizes)}

    def export_raw_outputs(self, outputs, image_sizes):
        return {"boxes": _to_pixels(_decode(outputs), image_sizes), "scores": tf.sigmoid(outputs["classes"])}


def _decode(outputs):
    """Returns the box of each anchor, clipped to the image."""
    return tf.clip_by_value(boxes.decode(outputs["boxes"], outputs["anchors"][0]), 0.0, 1.0)


def _examples_per_match(matches):
    """Returns the number of examples divided by that of their matched anchors."""
    return tf.cast(tf.size(matches), tf.float32) / tf.maximum(tf.reduce_sum(matches), 1.0)


def _to_pixels(relative, image_sizes):
    scale = tf.cast(tf.tile(image_sizes, [1, 2]), tf.float32)
    return relative * scale[:, tf.newaxis]
