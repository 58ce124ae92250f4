"""Semantic segmentation: one label per pixel."""

import tensorflow as tf

from convzoo import data, models
from convzoo.tasks.task import Task, cross_entropy, percent


class Segmentation(Task):
    """Predicts a class for every pixel from logits [batch, height, width, classes]; `data.IGNORED` pixels do not count.

    The loss of an image is the mean over its labeled pixels, so every image has the same weight. The mean intersection
    over union (mIoU) is exact: one integer confusion matrix counts all pixels of the split, and classes that occur
    neither in the labels nor in the predictions are left out. Pixels are those of the network's input size, to which
    evaluation resizes images and labels.
    """

    label_kind = "map"
    best_metric, best_metric_title = "miou", "mean IoU"

    def build_model(self, config, num_classes, input_shape, overrides):
        return models.create_segmenter(
            config.model.name, num_classes, input_shape, **config.segmentation.to_dict(), **overrides
        )

    def losses(self, labels, outputs, label_smoothing=0.0):
        return _mean_over_labeled_pixels(cross_entropy(labels, outputs, label_smoothing), labels)

    def train_metrics(self, labels, outputs):
        correct = tf.equal(tf.argmax(outputs, -1, output_type=labels.dtype), labels)
        return {"accuracy": _mean_over_labeled_pixels(tf.cast(correct, tf.float32), labels)}

    def initial_totals(self, output_shape):
        num_classes = output_shape[-1]
        return {"loss": tf.zeros([]), "confusion": tf.zeros([num_classes, num_classes], tf.int64)}

    def eval_totals(self, labels, outputs, mask):
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


def _mean_over_labeled_pixels(values, labels):
    """Returns the mean of values [batch, height, width] over labeled pixels, [batch]; 0 where an image has none."""
    labeled = tf.cast(labels != data.IGNORED, tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(values * labeled, (1, 2)), tf.reduce_sum(labeled, (1, 2)))
