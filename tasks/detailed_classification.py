"""Classification as eval.py evaluates it: with metrics by class and by confidence, tables and drawings."""

import csv
import dataclasses
import importlib.util
import io
from typing import ClassVar

import numpy as np
import tensorflow as tf

from convzoo.errors import ConfigError
from convzoo.tasks.classification import Classification
from convzoo.tasks.classification_drawing import draw_confusion_matrix, draw_reliability_diagram, draw_top_losses
from convzoo.tasks.classification_metrics import calibration_bins, confused_pairs, confusion_matrix, count_by_class
from convzoo.tasks.real_labels import real_accuracy
from convzoo.tasks.task import cross_entropy, percent

_NUM_SHOWN = 10  # classes and pairs in the tables on the screen
_MAX_MATRIX_CLASSES = 2000  # of a confusion matrix as CSV, which then has 8 MB


@dataclasses.dataclass(frozen=True)
class DetailedClassification(Classification):
    """Collects the most probable classes of every image of a split, and derives further metrics and files from them.

    An image takes 20 bytes of memory, and 8 for each class of the largest `eval_top_k`.

    The metrics are those of `Classification`, and:

    - "ece": the expected calibration error, see `calibration_bins`.
    - "class_accuracy", "class_examples": accuracy and number of examples of each class that has examples.
    - "confused_pairs": the ten most frequent pairs of a label and another predicted class.
    - with `real_labels`, those of `real_accuracy`.

    Attributes:
        real_labels: Acceptable labels of each example of the split, see `read_real_labels`; or None.
        predictions: Write the predictions of each image, as "csv" or "parquet"; or None.
        top_losses: Draw so many images, those with the highest loss.

    Example:
        >>> sorted(DetailedClassification().prediction_dtypes)
        ['classes', 'labels', 'losses', 'probabilities']
    """

    real_labels: list[frozenset[int]] | None = None
    predictions: str | None = None
    top_losses: int = 0

    prediction_dtypes: ClassVar = {
        **{"labels": tf.int32, "losses": tf.float32},
        **{"classes": tf.int32, "probabilities": tf.float32},
    }

    @property
    def uses_index(self):
        return bool(self.real_labels is not None or self.predictions or self.top_losses)

    def prepare_evaluation(self):
        if self.predictions == "parquet" and importlib.util.find_spec("pyarrow") is None:
            raise ConfigError(
                "--predictions=parquet needs pyarrow; install it with: pip install 'convzoo[parquet]', or use csv"
            )

    def eval_predictions(self, labels, outputs):
        classes = self.top_classes(outputs)
        return {
            "labels": tf.cast(labels, tf.int32),
            "losses": cross_entropy(labels, outputs),
            "classes": classes,
            "probabilities": tf.gather(tf.nn.softmax(outputs), classes, batch_dims=1),
        }

    def eval_metrics(self, totals, predictions, num_examples, source, split):
        labels, classes = predictions["labels"], predictions["classes"]
        counts = count_by_class(labels, classes[:, 0], source.num_classes)
        accuracy, names = counts.accuracy, source.class_names
        metrics = {
            **super().eval_metrics(totals, predictions, num_examples, source, split),
            "ece": _bins(predictions).error,
            "class_accuracy": {int(index): float(accuracy[index]) for index in np.flatnonzero(counts.examples)},
            "class_examples": {int(index): int(counts.examples[index]) for index in np.flatnonzero(counts.examples)},
            "confused_pairs": [
                {"true": names[label], "predicted": names[predicted], "examples": int(count)}
                for label, predicted, count in confused_pairs(labels, classes[:, 0])[:_NUM_SHOWN]
            ],
        }
        if self.real_labels is not None:
            acceptable = [self.real_labels[index] for index in predictions["index"]]
            metrics |= real_accuracy(classes, labels, acceptable, self.eval_top_k)
        return metrics

    def summary(self, metrics):
        return {
            **super().summary(metrics),
            "ECE %": percent(metrics["ece"]),
            **({"ReaL top-1 %": percent(metrics["real_top1"])} if "real_top1" in metrics else {}),
        }

    def summary_tables(self, metrics):
        accuracy, examples = metrics["class_accuracy"], metrics["class_examples"]
        worst = sorted(accuracy, key=lambda name: (accuracy[name], -examples[name]))[:_NUM_SHOWN]
        classes = [
            {
                "class": name,
                "top-1 %": percent(accuracy[name]),
                "correct": f"{accuracy[name] * examples[name]:.0f}",
                "examples": str(examples[name]),
            }
            for name in worst
        ]
        pairs = [{title: str(value) for title, value in pair.items()} for pair in metrics["confused_pairs"]]
        return [classes, pairs]

    def eval_drawings(self, predictions, source, split, settings):
        labels, predicted = predictions["labels"], predictions["classes"][:, 0]
        drawings = {
            "confusion_matrix": draw_confusion_matrix(labels, predicted, source.class_names),
            "reliability_diagram": draw_reliability_diagram(_bins(predictions)),
        }
        if self.top_losses:
            worst = np.argsort(-predictions["losses"], kind="stable")[: self.top_losses]
            titles = [_title({name: values[row] for name, values in predictions.items()}, source) for row in worst]
            drawings["top_losses"] = draw_top_losses(predictions["index"][worst], titles, source, split, settings)
        return drawings

    def eval_files(self, predictions, source, split, settings):
        names = source.class_names
        labels, predicted = predictions["labels"], predictions["classes"][:, 0]
        counts = count_by_class(labels, predicted, source.num_classes)
        pairs = confused_pairs(labels, predicted)
        files = {
            **super().eval_files(predictions, source, split, settings),
            "classes.csv": _csv(
                ("class", "name", "examples", "correct", "accuracy"),
                range(source.num_classes),
                names,
                counts.examples,
                counts.correct,
                ["" if np.isnan(value) else value for value in counts.accuracy.tolist()],
            ),
            "confused_pairs.csv": _csv(
                ("true", "predicted", "examples", "share_of_true"),
                *([names[label] for label in labels] for labels in pairs[:, :2].T),
                pairs[:, 2],
                (pairs[:, 2] / counts.examples[pairs[:, 0]]).tolist(),
            ),
        }
        occurring = np.unique(np.concatenate([labels, predicted]))
        if len(occurring) <= _MAX_MATRIX_CLASSES:
            titles = [names[label] for label in occurring]
            matrix = confusion_matrix(*np.searchsorted(occurring, (labels, predicted)), len(occurring))
            files["confusion_matrix.csv"] = _csv(("true \\ predicted", *titles), titles, *matrix.T)
        if self.predictions:
            write = {"csv": _csv, "parquet": _parquet}[self.predictions]
            columns = _columns(predictions, source, split)
            files[f"predictions.{self.predictions}"] = write(columns, *columns.values())
        return files


def _bins(predictions):
    return calibration_bins(predictions["probabilities"][:, 0], predictions["classes"][:, 0] == predictions["labels"])


def _title(row, source):
    """Returns the title of an image: label and predicted class, each with its probability."""
    names = source.class_names
    true, predicted = names[row["labels"]], names[row["classes"][0]]
    return f"{true} ({np.exp(-row['losses']):.1%}), predicted {predicted} ({row['probabilities'][0]:.1%})"


def _columns(predictions, source, split):
    """Returns the predictions of each image as columns: name to values."""
    indices, names = predictions["index"], source.example_names(split)
    of_class = np.array(source.class_names, object)
    columns = {
        "index": indices,
        **({} if names is None else {"name": [names[index] for index in indices]}),
        "label": predictions["labels"],
        "label_name": of_class[predictions["labels"]],
        "loss": predictions["losses"],
    }
    for rank, (classes, probabilities) in enumerate(
        zip(predictions["classes"].T, predictions["probabilities"].T, strict=True), start=1
    ):
        columns |= {
            f"class_{rank}": classes,
            f"class_name_{rank}": of_class[classes],
            f"probability_{rank}": probabilities,
        }
    return columns


def _csv(titles, *columns):
    """Returns columns below their titles as a CSV file."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(titles)
    writer.writerows(zip(*columns, strict=True))
    return file.getvalue().encode()


def _parquet(titles, *columns):
    """Returns columns as a Parquet file."""
    import pyarrow
    from pyarrow import parquet

    file = io.BytesIO()
    parquet.write_table(pyarrow.table([pyarrow.array(values) for values in columns], list(titles)), file)
    return file.getvalue()
