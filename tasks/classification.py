"""Image classification: one label per image."""

import tensorflow as tf

from convzoo import models
from convzoo.tasks.task import Task, cross_entropy, percent


class Classification(Task):
    """Predicts one class per image from logits [batch, classes], with softmax cross-entropy as its loss."""

    best_metric, best_metric_title = "top1", "top-1"

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
        return {name: tf.zeros([]) for name in ("loss", "top1", "top5")}

    def eval_totals(self, labels, outputs, mask):
        top5 = tf.math.top_k(outputs, min(5, outputs.shape[-1])).indices
        correct = tf.cast(tf.equal(top5, labels[:, tf.newaxis]), tf.float32)
        return {
            "loss": tf.reduce_sum(cross_entropy(labels, outputs) * mask),
            "top1": tf.reduce_sum(correct[:, 0] * mask),
            "top5": tf.reduce_sum(tf.reduce_max(correct, axis=-1) * mask),
        }

    def eval_metrics(self, totals, predictions, num_examples, source, split):
        return {name: float(value / num_examples) for name, value in totals.items()}

    def summary(self, metrics):
        return {
            "top-1 %": percent(metrics["top1"]),
            "top-5 %": percent(metrics["top5"]),
            "loss": f"{metrics['loss']:.4f}",
        }

    def export_outputs(self, outputs, image_sizes):
        return {"classes": tf.argmax(outputs, -1), "probabilities": tf.nn.softmax(outputs), "logits": outputs}
