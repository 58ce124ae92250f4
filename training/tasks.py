"""What a network is trained for: how its answers are scored in training and in evaluation."""

import abc

import keras
import ml_collections
import tensorflow as tf

from convzoo import data, models


class Task(abc.ABC):
    """The scores of one kind of label.

    Attributes:
        has_maps: Whether every pixel has a label, or every picture.
        best: The figure by which the best checkpoint is chosen, the higher the better.
    """

    has_maps: bool
    best: str

    @abc.abstractmethod
    def build(self, config: ml_collections.ConfigDict, num_classes: int, input_shape, overrides: dict) -> keras.Model:
        """The experiment's network, freshly initialised."""

    @abc.abstractmethod
    def losses(self, labels: tf.Tensor, logits: tf.Tensor, label_smoothing: float = 0.0) -> tf.Tensor:
        """The loss of each example, float32 [batch].

        Args:
            labels: Of the data source, int; or of pictures that were mixed, float [batch, classes].
            logits: The network's.
            label_smoothing: Share of the probability that is spread evenly over all classes.
        """

    @abc.abstractmethod
    def right(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """How much of each example's labels the highest score names, float32 [batch], from 0 to 1."""

    @abc.abstractmethod
    def zeros(self, num_classes: int) -> dict[str, tf.Tensor]:
        """What `sums` adds up to before the first batch."""

    @abc.abstractmethod
    def sums(self, labels: tf.Tensor, logits: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        """Sums over the examples of a batch whose mask (float [batch]) is 1, from which `figures` comes."""

    @abc.abstractmethod
    def figures(self, sums: dict, examples: int) -> dict[str, float]:
        """The figures of an evaluation, "loss" among them, from sums over all examples."""

    @abc.abstractmethod
    def columns(self, figures: dict) -> dict[str, str]:
        """The figures for people, by what they are called."""


class Classification(Task):
    """One label a picture."""

    has_maps, best = False, "top1"

    def build(self, config, num_classes, input_shape, overrides):
        return models.create_model(config.model.name, num_classes, input_shape, **overrides)

    def losses(self, labels, logits, label_smoothing=0.0):
        return cross_entropy(labels, logits, label_smoothing)

    def right(self, labels, logits):
        if labels.dtype.is_floating:  # of mixed pictures: the class with the largest share
            labels = tf.argmax(labels, -1, output_type=tf.int32)
        return tf.cast(tf.equal(tf.argmax(logits, -1, output_type=labels.dtype), labels), tf.float32)

    def zeros(self, num_classes):
        return {name: tf.zeros([]) for name in ("loss", "top1", "top5")}

    def sums(self, labels, logits, mask):
        best = tf.math.top_k(logits, min(5, logits.shape[-1])).indices
        right = tf.cast(tf.equal(best, labels[:, tf.newaxis]), tf.float32)
        return {
            "loss": tf.reduce_sum(cross_entropy(labels, logits) * mask),
            "top1": tf.reduce_sum(right[:, 0] * mask),
            "top5": tf.reduce_sum(tf.reduce_max(right, axis=-1) * mask),
        }

    def figures(self, sums, examples):
        return {name: float(value / examples) for name, value in sums.items()}

    def columns(self, figures):
        return {
            "top-1 %": f"{figures['top1']:.2%}"[:-1],
            "top-5 %": f"{figures['top5']:.2%}"[:-1],
            "loss": f"{figures['loss']:.4f}",
        }


class Segmentation(Task):
    """One label a pixel; pixels that are `data.IGNORED` count nowhere.

    A picture's loss is the mean over its pixels, so that pictures count alike whatever the number of pixels that have a
    label. The mean intersection over union is exact: all pixels of the split are counted, in whole numbers, before it
    is taken, over the classes that the labels or the answers name at all. Pixels are those of the network's input, to
    whose size pictures and labels are brought.
    """

    has_maps, best = True, "miou"

    def build(self, config, num_classes, input_shape, overrides):
        settings = config.segmentation.to_dict()
        settings["atrous_rates"] = tuple(settings["atrous_rates"]) or None
        return models.create_segmenter(config.model.name, num_classes, input_shape, **settings, **overrides)

    def losses(self, labels, logits, label_smoothing=0.0):
        return self._mean(cross_entropy(labels, logits, label_smoothing), labels)

    def right(self, labels, logits):
        right = tf.equal(tf.argmax(logits, -1, output_type=labels.dtype), labels)
        return self._mean(tf.cast(right, tf.float32), labels)

    def _mean(self, values, labels):
        """The mean of [batch, height, width] over the pixels with a label; 0 where none has one."""
        known = tf.cast(labels != data.IGNORED, tf.float32)
        return tf.math.divide_no_nan(tf.reduce_sum(values * known, (1, 2)), tf.reduce_sum(known, (1, 2)))

    def zeros(self, num_classes):
        return {"loss": tf.zeros([]), "confusion": tf.zeros([num_classes, num_classes], tf.int64)}

    def sums(self, labels, logits, mask):
        classes = logits.shape[-1]
        # An ignored label is no class, and makes a row of zeros.
        truth = tf.one_hot(labels, classes) * mask[:, tf.newaxis, tf.newaxis, tf.newaxis]
        truth = tf.reshape(truth, (tf.shape(truth)[0], -1, classes))
        answer = tf.reshape(tf.one_hot(tf.argmax(logits, -1), classes), tf.shape(truth))
        # Of one picture at a time in float32: exact up to 2^24 pixels.
        confusion = tf.cast(tf.matmul(truth, answer, transpose_a=True), tf.int64)
        return {
            "loss": tf.reduce_sum(self.losses(labels, logits) * mask),
            "confusion": tf.reduce_sum(confusion, axis=0),
        }

    def figures(self, sums, examples):
        confusion = sums["confusion"]
        both = confusion.diagonal()
        either = confusion.sum(0) + confusion.sum(1) - both
        union = both[either > 0] / either[either > 0]
        return {
            "loss": float(sums["loss"] / examples),
            "miou": float(union.mean()) if union.size else 0.0,
            "pixel_accuracy": float(both.sum() / max(confusion.sum(), 1)),
        }

    def columns(self, figures):
        return {
            "mean IoU %": f"{figures['miou']:.2%}"[:-1],
            "pixels right %": f"{figures['pixel_accuracy']:.2%}"[:-1],
            "loss": f"{figures['loss']:.4f}",
        }


_TASKS = {"classification": Classification(), "segmentation": Segmentation()}


def of(config: ml_collections.ConfigDict) -> Task:
    """The experiment's task."""
    return _TASKS[config.task]


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor, label_smoothing: float = 0.0) -> tf.Tensor:
    """Softmax cross-entropy of each label, float32 [batch, ...].

    Args:
        labels: int [batch, ...], or the share of each class, float [batch, ..., classes].
        logits: float [batch, ..., classes].
        label_smoothing: Share of the probability that is spread evenly over all classes.
    """
    labels, logits = tf.convert_to_tensor(labels), tf.cast(logits, tf.float32)
    classes = logits.shape[-1]
    shares = labels if labels.dtype.is_floating else tf.one_hot(labels, classes)
    target = shares * (1.0 - label_smoothing) + label_smoothing / classes
    return tf.nn.softmax_cross_entropy_with_logits(target, logits)
