"""Image classification: one label per image."""

import dataclasses
from typing import ClassVar

import tensorflow as tf

from convzoo import models
from convzoo.tasks.task import Task, cross_entropy, percent


@dataclasses.dataclass(frozen=True)
class Classification(Task):
    """Predicts one class per image from logits [batch, classes], with softmax cross-entropy as its loss.

    Attributes:
        eval_top_k: Evaluation counts the images whose label is among the k most probable classes, for each k; 1 first.

    Example:
        >>> Classification(eval_top_k=(1, 3)).best_metric
        'top1'
    """

    eval_top_k: tuple[int, ...] = (1, 5)

    best_metric: ClassVar = "top1"
    best_metric_title: ClassVar = "top-1"

    def build_model(self, config, num_classes, input_shape, overrides):
        return models.create_model(config.model.name, num_classes, input_shape, **overrides)

    def losses(self, labels, outputs, label_smoothing=0.0):
        return cross_entropy(labels, outputs, label_smoothing)

    def train_metrics(self, labels, outputs):
        if labels.dtype.is_floating:  # mixed images count as the class with the larger share
            labels = tf.argmax(labels, -1, output_type=tf.int32)
        correct = tf.equal(tf.argmax(outputs, -1, output_type=labels.dtype), labels)
        return {"accuracy": tf.cast(correct, tf.float32)}

    def initial_totals(self, output_shape):
        return {name: tf.zeros([]) for name in ("loss", *(f"top{k}" for k in self.eval_top_k))}

    def eval_totals(self, labels, outputs, mask):
        correct = tf.cast(tf.equal(self.top_classes(outputs), labels[:, tf.newaxis]), tf.float32)
        return {
            "loss": tf.reduce_sum(cross_entropy(labels, outputs) * mask),
            **{f"top{k}": tf.reduce_sum(tf.reduce_max(correct[:, :k], -1) * mask) for k in self.eval_top_k},
        }

    def top_classes(self, outputs: tf.Tensor) -> tf.Tensor:
        """Returns the most probable classes of each image, the most probable first, int32 [batch, largest k]."""
        return tf.math.top_k(outputs, min(max(self.eval_top_k), outputs.shape[-1])).indices

    def eval_metrics(self, totals, predictions, num_examples, source, split):
        return {name: float(value / num_examples) for name, value in totals.items()}

    def summary(self, metrics):
        return {
            **{f"top-{k} %": percent(metrics[f"top{k}"]) for k in self.eval_top_k},
            "loss": f"{metrics['loss']:.4f}",
        }

    def export_outputs(self, outputs, image_sizes):
        return {"classes": tf.argmax(outputs, -1), "probabilities": tf.nn.softmax(outputs), "logits": outputs}
