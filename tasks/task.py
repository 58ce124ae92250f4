"""The interface between a kind of prediction and the programs that train, evaluate and export it."""

import abc
from typing import Any

import keras
import ml_collections
import numpy as np
import tensorflow as tf

from convzoo import data


class Task(abc.ABC):
    """A kind of prediction: its network head, loss, metrics and exported outputs. Instances hold settings and no state.

    Labels and outputs are tensors or nested structures of tensors whose first axis is the batch: class indices, label
    maps, or a dictionary such as padded boxes and their classes. Training calls `losses` and `train_metrics` in every
    step. Evaluation calls `predict` and `eval_totals` for every batch and adds the totals up on the devices. It also
    concatenates the tensors of `eval_predictions` over the split, for metrics that are no sums over examples, such as
    average precision. At the end it calls `eval_metrics` once. eval.py then writes the files of `eval_files`.

    Attributes:
        label_kind: What the label of an image is.
        best_metric: Name of the metric that selects the best checkpoint; higher is better.
        best_metric_title: Its name in tables, such as "top-1".
        train_metric_names: Keys of `train_metrics`.
        prediction_dtypes: Name and dtype of each tensor of `eval_predictions`.
        uses_index: True if the results depend on the "index" among the predictions, see `eval_metrics`.
    """

    label_kind: data.LabelKind = "class"
    best_metric: str
    best_metric_title: str
    train_metric_names: tuple[str, ...] = ("accuracy",)
    prediction_dtypes: dict[str, tf.DType] = {}  # noqa: RUF012  never modified
    uses_index: bool = False

    @abc.abstractmethod
    def build_model(
        self,
        config: ml_collections.ConfigDict,
        num_classes: int,
        input_shape: tuple[int | None, int | None, int],
        overrides: dict[str, Any],
    ) -> keras.Model:
        """Builds the randomly initialized network, from normalized float images to outputs.

        Args:
            config: The config of the experiment.
            num_classes: Number of classes of the data.
            input_shape: Height, width and channels of an image.
            overrides: Further arguments of the network's builder.
        """

    @abc.abstractmethod
    def losses(self, labels, outputs, label_smoothing: float = 0.0) -> tf.Tensor:
        """Returns the loss of each example, float32 [batch].

        Args:
            labels: Labels of the data source, or float class shares [batch, classes] after mixup and CutMix.
            outputs: Outputs of the network.
            label_smoothing: Share of the probability that is spread evenly over all classes.
        """

    @abc.abstractmethod
    def train_metrics(self, labels, outputs) -> dict[str, tf.Tensor]:
        """Returns the metrics that training reports with the loss, float32 [batch] each. Arguments as in `losses`."""

    def open_eval_source(self, spec: str, data_dir: str | None = None) -> data.Source | None:
        """Opens the source of the images of evaluation, if it is another one than that of training.

        Args:
            spec: `config.data.source`, the source of training.
            data_dir: `config.data.data_dir`.

        Returns:
            The source; None for that of training, by default.

        Raises:
            DataError: The source is unknown or invalid.
        """
        return None

    def predict(self, model: keras.Model, images: tf.Tensor):
        """Returns the outputs of a network in evaluation and export, float32; by default those for the images alone.

        Args:
            model: The network.
            images: Normalized images, float [batch, height, width, 3].
        """
        return tf.nest.map_structure(lambda tensor: tf.cast(tensor, tf.float32), model(images, training=False))

    def prepare_evaluation(self) -> None:  # noqa: B027  optional
        """Raises ConfigError if a library that `eval_metrics` needs is missing."""

    @abc.abstractmethod
    def initial_totals(self, output_shape) -> dict[str, tf.Tensor]:
        """Returns zeros of the shapes and dtypes of `eval_totals`.

        Args:
            output_shape: Shapes of the network's outputs, as in `keras.Model.output_shape`.
        """

    @abc.abstractmethod
    def eval_totals(self, labels, outputs, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns sums over the examples of a batch. Examples whose `mask` (float [batch]) is 0 do not count."""

    def eval_predictions(self, labels, outputs) -> dict[str, tf.Tensor]:
        """Returns the tensors [batch, ...] that evaluation collects over the whole split; none by default."""
        return {}

    @abc.abstractmethod
    def eval_metrics(
        self,
        totals: dict[str, np.ndarray],
        predictions: dict[str, np.ndarray],
        num_examples: int,
        source: data.Source,
        split: str,
    ) -> dict[str, float | dict[int, float] | list[dict[str, Any]]]:
        """Returns the metrics of a split, `best_metric` among them; some may be a dict by class index, or JSON rows.

        Args:
            totals: `eval_totals`, summed over all batches.
            predictions: `eval_predictions` [examples, ...] of all examples, without padding, and "index", the index of
                each example in the split, int64 [examples]; {} for tasks without predictions.
            num_examples: Number of examples that counted.
            source, split: What was evaluated.
        """

    def eval_drawings(
        self, predictions: dict[str, np.ndarray], source: data.Source, split: str, settings: dict[str, Any]
    ) -> dict[str, bytes]:
        """Returns drawings of an evaluation: name to PNG file. None by default.

        Args:
            predictions: As for `eval_metrics`.
            source, split: What was evaluated.
            settings: Arguments of `data.eval_transform`.
        """
        return {}

    def eval_files(
        self, predictions: dict[str, np.ndarray], source: data.Source, split: str, settings: dict[str, Any]
    ) -> dict[str, bytes]:
        """Returns the files that eval.py writes beside the metrics, by the end of their names: the drawings by default.

        Arguments as for `eval_drawings`.
        """
        drawings = self.eval_drawings(predictions, source, split, settings)
        return {f"{name}.png": png for name, png in drawings.items()}

    @abc.abstractmethod
    def summary(self, metrics: dict[str, float]) -> dict[str, str]:
        """Formats the metrics for a table: column title to text."""

    def summary_tables(self, metrics: dict[str, Any]) -> list[list[dict[str, str]]]:
        """Formats metrics of classes for further tables, each a list of rows: column title to text. None by default."""
        return []

    @abc.abstractmethod
    def export_outputs(self, outputs, image_sizes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the outputs of an exported model by name.

        Args:
            outputs: Outputs of the network, float32.
            image_sizes: Height and width of each image in pixels before preprocessing, int32 [batch, 2]; all equal for
                label maps.
        """

    def export_raw_outputs(self, outputs, image_sizes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the outputs of the exported model without post-processing, for serving on TPUs; none by default.

        Arguments as in `export_outputs`.
        """
        return {}

    def compare(self, first: dict[str, tf.Tensor], second: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns the outputs of an exported model for pairs of images; no such signature by default.

        Args:
            first, second: `export_outputs` of the first and of the second images.
        """
        return {}


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor, label_smoothing: float = 0.0) -> tf.Tensor:
    """Computes the softmax cross-entropy of each label, float32 [batch, ...].

    Args:
        labels: Class indices, int [batch, ...], or class shares, float [batch, ..., classes].
        logits: float [batch, ..., classes].
        label_smoothing: Share of the probability that is spread evenly over all classes.

    Example:
        >>> cross_entropy(tf.constant([1]), tf.constant([[0.0, 0.0]])).numpy().round(4).tolist()
        [0.6930999755859375]
    """
    labels, logits = tf.convert_to_tensor(labels), tf.cast(logits, tf.float32)
    classes = logits.shape[-1]
    shares = labels if labels.dtype.is_floating else tf.one_hot(labels, classes)
    target = shares * (1.0 - label_smoothing) + label_smoothing / classes
    return tf.nn.softmax_cross_entropy_with_logits(target, logits)


def percent(share: float) -> str:
    """Formats a share of 1 in percent with two digits, without the sign."""
    return f"{share:.2%}"[:-1]
