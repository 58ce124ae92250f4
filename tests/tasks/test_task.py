"""The task interface, with a task that predicts a list of boxes per image and scores whole splits."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from convzoo import data
from convzoo.tasks import Classification, Task
from convzoo.tasks.task import cross_entropy
from convzoo.training.evaluation import Evaluator
from convzoo.training.optimizers import SGD
from convzoo.training.state import TrainState
from convzoo.training.train_step import initial_sums, train_step

MAX_BOXES = 3


class BoxTask(Task):
    """Predicts MAX_BOXES boxes per image. Labels are padded boxes and a mask; the metric is a median over the split."""

    best_metric = "median_error"
    train_metric_names = ("box_error",)
    prediction_dtypes = {"errors": tf.float32}  # noqa: RUF012

    def build_model(self, config, num_classes, input_shape, overrides):
        inputs = keras.Input(input_shape)
        x = keras.layers.Flatten()(inputs)
        boxes = keras.layers.Reshape((MAX_BOXES, 4))(keras.layers.Dense(MAX_BOXES * 4)(x))
        return keras.Model(inputs, {"boxes": boxes, "scores": keras.layers.Dense(MAX_BOXES)(x)})

    def _errors(self, labels, outputs):
        differences = tf.reduce_sum(tf.abs(outputs["boxes"] - labels["boxes"]), -1) * labels["is_box"]
        return tf.math.divide_no_nan(tf.reduce_sum(differences, -1), tf.reduce_sum(labels["is_box"], -1))

    def losses(self, labels, outputs, label_smoothing=0.0):
        return self._errors(labels, outputs) + tf.reduce_sum((outputs["scores"] - labels["is_box"]) ** 2, -1)

    def train_metrics(self, labels, outputs):
        return {"box_error": self._errors(labels, outputs)}

    def initial_totals(self, output_shape):
        return {"loss": tf.zeros([])}

    def eval_totals(self, labels, outputs, mask):
        return {"loss": tf.reduce_sum(self.losses(labels, outputs) * mask)}

    def eval_predictions(self, labels, outputs):
        return {"errors": self._errors(labels, outputs)}

    def eval_metrics(self, totals, predictions, num_examples, source, split):
        assert predictions["errors"].shape == (num_examples,)
        return {"loss": totals["loss"] / num_examples, "median_error": float(np.median(predictions["errors"]))}

    def summary(self, metrics):
        return {"median error": f"{metrics['median_error']:.3f}"}

    def export_outputs(self, outputs, image_sizes):
        return outputs


def _batch(size, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": tf.constant(rng.normal(size=(size, 4, 4, 3)), tf.float32),
        "label": {
            "boxes": tf.constant(rng.uniform(size=(size, MAX_BOXES, 4)), tf.float32),
            "is_box": tf.constant(rng.integers(0, 2, (size, MAX_BOXES)), tf.float32),
        },
    }


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    return BoxTask().build_model(None, 0, (4, 4, 3), {})


@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_train_step_with_nested_labels_and_outputs(model, accumulation_steps):
    task, batch = BoxTask(), _batch(4)
    optimizer = SGD(0.01)
    optimizer.build(model.trainable_weights)
    state = TrainState(model, optimizer)
    losses = [
        train_step(state, batch, task=task, batch_size=4, accumulation_steps=accumulation_steps) for _ in range(5)
    ]
    assert losses[0].keys() == initial_sums(task).keys() == {"loss", "box_error"}
    assert float(losses[-1]["loss"]) < float(losses[0]["loss"])


@pytest.mark.parametrize("batch_size", [3, 5])
def test_evaluation_collects_predictions_over_the_whole_split(model, monkeypatch, batch_size):
    examples, task = 10, BoxTask()
    batch = _batch(examples)

    def padded_batches(source, split, *, batch_size, **settings):
        padding = -examples % batch_size
        padded = tf.nest.map_structure(
            lambda tensor: tf.pad(tensor, [[0, padding], *[[0, 0]] * (tensor.shape.rank - 1)], constant_values=9.0),
            {**batch, "mask": tf.ones([examples])},
        )
        padded["mask"] = tf.where(tf.range(examples + padding) < examples, 1.0, 0.0)
        return tf.data.Dataset.from_tensor_slices(padded).batch(batch_size)

    monkeypatch.setattr(data, "eval_dataset", padded_batches)
    monkeypatch.setattr(data, "num_eval_batches", lambda source, split, batch_size: -(-examples // batch_size))
    evaluator = Evaluator(model, tf.distribute.OneDeviceStrategy("/cpu:0"), task)
    metrics = evaluator.evaluate(None, "test", batch_size=batch_size)
    outputs = model(batch["image"])
    errors = task._errors(batch["label"], outputs).numpy()
    assert metrics["examples"] == examples
    assert metrics["median_error"] == pytest.approx(np.median(errors), rel=1e-5)
    assert metrics["loss"] == pytest.approx(task.losses(batch["label"], outputs).numpy().mean(), rel=1e-5)


def test_cross_entropy_of_class_shares_is_the_mean_of_cross_entropies():
    logits = tf.constant(np.random.default_rng(0).normal(size=(3, 4)), tf.float32)
    first, second, share = tf.constant([0, 1, 3]), tf.constant([2, 1, 0]), tf.constant([0.7, 0.5, 1.0])
    shares = share[:, None] * tf.one_hot(first, 4) + (1 - share[:, None]) * tf.one_hot(second, 4)
    for smoothing in (0.0, 0.1):
        parts = [cross_entropy(labels, logits, smoothing) for labels in (first, second)]
        expected = share * parts[0] + (1 - share) * parts[1]
        np.testing.assert_allclose(cross_entropy(shares, logits, smoothing), expected, rtol=1e-5)


def test_accuracy_of_mixed_images_counts_the_larger_share():
    logits = tf.constant(np.random.default_rng(0).normal(size=(3, 4)), tf.float32)
    predicted = tf.argmax(logits, -1, tf.int32)
    for offset, accuracy in ((0, 1.0), (1, 0.0)):
        labels = tf.one_hot((predicted + offset) % 4, 4) * 0.6
        np.testing.assert_array_equal(Classification().train_metrics(labels, logits)["accuracy"], accuracy)
