"""Semantic segmentation: one label per pixel."""

import dataclasses
from typing import ClassVar

import tensorflow as tf

from convzoo import data, models
from convzoo.tasks.task import Task, cross_entropy, percent

_EPSILON = 1e-7  # of a probability


@dataclasses.dataclass(frozen=True)
class Segmentation(Task):
    """Predicts a class for every pixel from logits [batch, height, width, classes]; `data.IGNORED` pixels do not count.

    The loss of an image is the mean over its labeled pixels, so every image has the same weight. The mean intersection
    over union (mIoU) is exact: one integer confusion matrix counts all pixels of the split, and classes that occur
    neither in the labels nor in the predictions are left out. Pixels are those of the network's input size, to which
    evaluation resizes images and labels, or with `eval_size` those of each image, to which it resizes the logits.

    Attributes:
        eval_size: (height, width) that no image of evaluation exceeds, or None.
        eval_scales: Factors on the size of the network's input; evaluation and export average the probabilities.
        eval_flip: Whether they also average those of the mirrored image.

    Example:
        >>> Segmentation(eval_flip=True).best_metric
        'miou'
    """

    eval_size: tuple[int, int] | None = None
    eval_scales: tuple[float, ...] = (1.0,)
    eval_flip: bool = False

    label_kind: ClassVar = "map"
    best_metric: ClassVar = "miou"
    best_metric_title: ClassVar = "mean IoU"

    def build_model(self, config, num_classes, input_shape, overrides):
        settings = config.segmentation.to_dict()
        decoder = {name: value for name, value in settings.items() if not hasattr(self, name)}
        if self.eval_scales != (1.0,) or config.data.scale_jitter is not None:
            input_shape = (None, None, input_shape[2])
        return models.create_segmenter(config.model.name, num_classes, input_shape, **decoder, **overrides)

    def predict(self, model, images):
        if self.eval_scales == (1.0,) and not self.eval_flip:
            return super().predict(model, images)
        size = tf.shape(images)[1:3]
        parts = []
        for scale in self.eval_scales:
            scaled = images if scale == 1.0 else tf.image.resize(images, _scaled(size, scale))
            for is_mirrored in (False, True)[: 1 + self.eval_flip]:
                # One after the other, because a batch of all would take more memory.
                logits = super().predict(model, tf.reverse(scaled, [2]) if is_mirrored else scaled)
                logits = tf.image.resize(tf.reverse(logits, [2]) if is_mirrored else logits, size)
                parts.append(tf.nn.softmax(logits))
        return tf.math.log(tf.add_n(parts) / len(parts) + _EPSILON)

    def losses(self, labels, outputs, label_smoothing=0.0):
        return _mean_over_labeled_pixels(cross_entropy(labels, outputs, label_smoothing), labels)

    def train_metrics(self, labels, outputs):
        correct = tf.equal(tf.argmax(outputs, -1, output_type=labels.dtype), labels)
        return {"accuracy": _mean_over_labeled_pixels(tf.cast(correct, tf.float32), labels)}

    def initial_totals(self, output_shape):
        num_classes = output_shape[-1]
        return {"loss": tf.zeros([]), "confusion": tf.zeros([num_classes, num_classes], tf.int64)}

    def eval_totals(self, labels, outputs, mask):
        if isinstance(labels, dict):
            outputs = resize_within(outputs, labels["size"], labels["map"].shape[1:3])
            labels = labels["map"]
        classes = outputs.shape[-1]
        # The one-hot vector of an ignored label is zero, because the label is not below the number of classes.
        truth = tf.one_hot(labels, classes) * mask[:, tf.newaxis, tf.newaxis, tf.newaxis]
        truth = tf.reshape(truth, (tf.shape(truth)[0], -1, classes))
        predicted = tf.reshape(tf.one_hot(tf.argmax(outputs, -1), classes), tf.shape(truth))
        # One float32 matrix per image is exact up to 2^24 pixels.
        confusion = tf.cast(tf.matmul(truth, predicted, transpose_a=True), tf.int64)
        return {
            "loss": tf.reduce_sum(self.losses(labels, outputs) * mask),
            "confusion": tf.reduce_sum(confusion, axis=0),
        }

    def eval_metrics(self, totals, predictions, num_examples, source, split):
        confusion = totals["confusion"]
        intersection = confusion.diagonal()
        union = confusion.sum(0) + confusion.sum(1) - intersection
        iou = intersection[union > 0] / union[union > 0]
        return {
            "loss": float(totals["loss"] / num_examples),
            "miou": float(iou.mean()) if iou.size else 0.0,
            "pixel_accuracy": float(intersection.sum() / max(confusion.sum(), 1)),
        }

    def summary(self, metrics):
        return {
            "mean IoU %": percent(metrics["miou"]),
            "pixel accuracy %": percent(metrics["pixel_accuracy"]),
            "loss": f"{metrics['loss']:.4f}",
        }

    def export_outputs(self, outputs, image_sizes):
        scores = tf.image.resize(outputs, image_sizes[0], method="bilinear")
        return {"classes": tf.argmax(scores, -1, tf.int32), "probabilities": tf.nn.softmax(scores)}


def _scaled(size, scale):
    return tf.maximum(tf.cast(tf.round(tf.cast(size, tf.float32) * scale), tf.int32), 1)


def resize_within(logits: tf.Tensor, sizes: tf.Tensor, largest: tuple[int, int]) -> tf.Tensor:
    """Resizes the logits of each image to its own size, bilinearly with half-pixel centers, in tensors of static shape.

    Args:
        logits: float32 [batch, height, width, classes].
        sizes: Height and width of each image, int32 [batch, 2].
        largest: Height and width of the result.

    Returns:
        float32 [batch, *largest, classes]. What lies outside the size of an image has no meaning.

    Example:
        >>> resize_within(tf.ones([2, 4, 4, 3]), tf.constant([[8, 6], [5, 9]]), (8, 9)).shape
        TensorShape([2, 8, 9, 3])
    """
    rows, columns = (_interpolation(logits.shape[1 + axis], sizes[:, axis], largest[axis]) for axis in range(2))
    return tf.einsum("byh,bxw,bhwc->byxc", rows, columns, logits, optimize="optimal")


def _interpolation(length, sizes, largest):
    """Returns the weight of each position of the input in each of the result, float32 [batch, largest, length]."""
    centers = tf.range(largest, dtype=tf.float32) + 0.5
    positions = centers * length / tf.cast(tf.maximum(sizes, 1), tf.float32)[:, tf.newaxis] - 0.5
    positions = tf.clip_by_value(positions, 0.0, length - 1.0)[..., tf.newaxis]
    return tf.maximum(1.0 - tf.abs(positions - tf.range(length, dtype=tf.float32)), 0.0)


def _mean_over_labeled_pixels(values, labels):
    """Returns the mean of values [batch, height, width] over labeled pixels, [batch]; 0 where an image has none."""
    labeled = tf.cast(labels != data.IGNORED, tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(values * labeled, (1, 2)), tf.reduce_sum(labeled, (1, 2)))
