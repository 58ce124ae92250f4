"""Detection: loss and gradients against NumPy, average precision, an oracle through evaluation and export, a run."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import tiny

from convzoo import data, models
from convzoo.data.source import IndexedSource
from convzoo.errors import ConfigError
from convzoo.models.anchors import grid_anchors
from convzoo.serving import export_saved_model
from convzoo.tasks import Detection, average_precision, boxes, get_task
from convzoo.training import checkpoints, experiment
from convzoo.training.devices import connect
from convzoo.training.evaluation import CheckpointEvaluator, Evaluator
from convzoo.training.loop import train
from convzoo.training.memory import check_memory
from convzoo.training.metrics import read_metrics
from convzoo.training.workdir import load_config

SIDE, SLOTS, CLASSES = 48, 4, 3
PLACES = (np.arange(SIDE + 1) / SIDE).astype("float32")
ANCHORS = grid_anchors([(6, 6), (3, 3)], [[(0.3, 0.3), (0.5, 0.25)]] * 2)
PREPROCESSING = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "interpolation": "bilinear"}
PLAIN = {**PREPROCESSING, "image_size": (SIDE, SIDE), "crop_fraction": None}


def random_labels(rng, images):
    """Returns labels of 0 to SLOTS objects in a quarter of the image each, whose corners are at whole pixels."""
    counts = rng.integers(0, SLOTS + 1, images)
    counts[0] = 0
    corners = np.sort(rng.integers(0, SIDE // 2, (images, SLOTS, 2, 2)), axis=2) + np.array([[0], [1]])
    corners += SIDE // 2 * np.array([[0, 0], [0, 1], [1, 0], [1, 1]])[:, np.newaxis]
    padded = PLACES[corners.reshape(images, SLOTS, 4)] * (np.arange(SLOTS) < counts[:, None])[..., None]
    return {
        "boxes": padded.astype("float32"),
        "classes": rng.integers(0, CLASSES, (images, SLOTS)).astype("int32"),
        "count": counts.astype("int32"),
    }


def random_outputs(rng, images):
    return {
        "classes": tf.constant(rng.normal(size=(images, len(ANCHORS), CLASSES)) * 2, tf.float32),
        "boxes": tf.constant(rng.normal(size=(images, len(ANCHORS), 4)), tf.float32),
        "anchors": tf.constant(np.tile(ANCHORS, (images, 1, 1))),
    }


def numpy_loss(task, labels, outputs):
    """Returns the loss of a batch in float64, in loops over images and anchors."""
    logits, offsets = (outputs[name].numpy().astype(float) for name in ("classes", "boxes"))
    matches = boxes.match(labels["boxes"], labels["count"], ANCHORS, task.match_threshold).numpy()
    total = 0.0
    for image in range(len(logits)):
        entropies = np.zeros(len(ANCHORS))
        for anchor, index in enumerate(matches[image]):
            targets = np.zeros(CLASSES)
            if index >= 0:
                targets[labels["classes"][image, index]] = 1
                top, left, bottom, right = labels["boxes"][image, index].astype(float)
                a_top, a_left, a_bottom, a_right = ANCHORS[anchor].astype(float)
                height, width = a_bottom - a_top, a_right - a_left
                expected = np.array(
                    [
                        10 * ((top + bottom) - (a_top + a_bottom)) / 2 / height,
                        10 * ((left + right) - (a_left + a_right)) / 2 / width,
                        5 * np.log((bottom - top) / height),
                        5 * np.log((right - left) / width),
                    ]
                )
                error = np.abs(offsets[image, anchor] - expected)
                total += task.box_loss_weight * np.where(error < 1, error**2 / 2, error - 0.5).mean()
            probability = 1 / (1 + np.exp(-logits[image, anchor]))
            right_probability = np.where(targets == 1, probability, 1 - probability)
            entropy = -np.log(right_probability)
            if task.class_loss == "focal":
                alpha = np.where(targets == 1, task.focal_alpha, 1 - task.focal_alpha)
                entropy = alpha * (1 - right_probability) ** task.focal_gamma * entropy
            entropies[anchor] = entropy.sum()
        if task.class_loss == "hard_negative":
            negative = matches[image] < 0
            number = 3 * (~negative).sum()
            total += entropies[~negative].sum() + np.sort(entropies[negative])[::-1][:number].sum()
        else:
            total += entropies.sum()
    return total / max((matches >= 0).sum(), 1)


TASKS = [Detection(), Detection(focal_alpha=0.25, focal_gamma=1.5, box_loss_weight=2.0), Detection("hard_negative")]


@pytest.mark.parametrize("task", TASKS, ids=["focal", "other_focal", "hard_negative"])
def test_loss_and_gradients(task):
    rng = np.random.default_rng(0)
    labels, outputs = random_labels(rng, 5), random_outputs(rng, 5)
    watched = {name: outputs[name] for name in ("classes", "boxes")}
    with tf.GradientTape() as tape:
        tape.watch(watched)
        loss = tf.reduce_mean(task.losses(labels, outputs))
    np.testing.assert_allclose(loss, numpy_loss(task, labels, outputs), rtol=1e-5)
    gradients = tape.gradient(loss, watched)
    step = 1e-4
    matches = boxes.match(labels["boxes"], labels["count"], ANCHORS).numpy()
    for name, gradient in gradients.items():
        largest = np.argsort(-np.abs(gradient.numpy()).ravel())[:10]
        for position in [*largest, *rng.integers(0, gradient.numpy().size, 5)]:
            index = np.unravel_index(position, gradient.shape)
            if name == "boxes" and matches[index[:2]] < 0:
                assert gradient.numpy()[index] == 0
                continue
            moved = []
            for sign in (1, -1):
                values = outputs[name].numpy().astype(float)
                values[index] += sign * step
                moved.append(numpy_loss(task, labels, {**outputs, name: tf.constant(values)}))
            numeric = (moved[0] - moved[1]) / (2 * step)
            np.testing.assert_allclose(gradient.numpy()[index], numeric, rtol=1e-3, atol=1e-7)


def test_a_batch_without_objects_has_a_finite_loss():
    rng = np.random.default_rng(0)
    labels = {**random_labels(rng, 2), "count": np.zeros(2, "int32")}
    for task in TASKS:
        losses = task.losses(labels, random_outputs(rng, 2))
        assert np.all(np.isfinite(losses))
        assert np.all(losses >= 0)


def test_train_metrics_add_up_to_the_loss():
    rng = np.random.default_rng(1)
    labels, outputs = random_labels(rng, 6), random_outputs(rng, 6)
    task = Detection(box_loss_weight=3.0)
    metrics = task.train_metrics(labels, outputs)
    assert set(metrics) == set(task.train_metric_names)
    np.testing.assert_allclose(task.losses(labels, outputs), metrics["class_loss"] + 3 * metrics["box_loss"], rtol=1e-5)
    matches = boxes.match(labels["boxes"], labels["count"], ANCHORS).numpy()
    truth = np.take_along_axis(labels["classes"], np.maximum(matches, 0), 1)
    correct = (outputs["classes"].numpy().argmax(-1) == truth)[matches >= 0]
    np.testing.assert_allclose(metrics["accuracy"].numpy().mean(), correct.mean(), rtol=1e-5)


def numpy_detections(boxes_of_image, logits, iou_threshold, score_threshold, count):
    """Greedy suppression within each class, in a loop."""
    scores = 1 / (1 + np.exp(-logits.astype(float)))
    kept = []
    for anchor, number in sorted(np.ndindex(*scores.shape), key=lambda pair: -scores[pair]):
        if scores[anchor, number] <= score_threshold:
            continue
        same = [other for other, of_other, _ in kept if of_other == number]
        if all(overlap(boxes_of_image[anchor], boxes_of_image[other]) <= iou_threshold for other in same):
            kept.append((anchor, number, scores[anchor, number]))
    return kept[:count]


def overlap(a, b):
    sides = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    areas = [np.prod(box[2:] - box[:2]) for box in (a, b)]
    return sides.prod() / max(sum(areas) - sides.prod(), 1e-12)


@pytest.mark.parametrize(
    ("iou_threshold", "score_threshold", "count"), [(0.5, 1e-8, 200), (0.3, 0.4, 20), (0.6, 0.9, 5)]
)
def test_detections(iou_threshold, score_threshold, count):
    rng = np.random.default_rng(3)
    corners = np.sort(rng.uniform(size=(2, 40, 2, 2)), axis=2).reshape(2, 40, 4).astype("float32")
    logits = rng.normal(size=(2, 40, 3)).astype("float32") * 3
    settings = {"iou_threshold": iou_threshold, "score_threshold": score_threshold, "max_detections": count}
    found = boxes.detect(tf.constant(corners), tf.constant(logits), **settings)
    for image in range(2):
        expected = numpy_detections(corners[image], logits[image], iou_threshold, score_threshold, count)
        assert found["count"][image] == len(expected)
        number = len(expected)
        np.testing.assert_array_equal(found["classes"][image, :number], [of for _, of, _ in expected])
        np.testing.assert_allclose(found["scores"][image, :number], [score for *_, score in expected], rtol=1e-5)
        np.testing.assert_allclose(found["boxes"][image, :number], corners[image][[a for a, *_ in expected]])
        assert not found["scores"][image, number:].numpy().any()


def test_average_precision_by_hand():
    """One class, one image of 100 x 100: a right detection, a wrong one, then a right one: AP of 1/2 + 1/2 * 2/3."""
    truths = {
        "boxes": np.array([[[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0], [0.0, 0.6, 0.4, 1.0]]]),
        "classes": np.array([[2, 2, 2]]),
        "areas": np.array([[2500.0, 2500.0, 1600.0]]),
        "count": np.array([2]),
        "num_crowds": np.array([1]),
        "size": np.array([[100, 100]]),
    }
    found = {
        # The last one lies within the crowd and counts neither for nor against.
        "boxes": np.array([[[0.0, 0.0, 0.5, 0.5], [0.3, 0.3, 0.4, 0.4], [0.5, 0.5, 1.0, 1.0], [0.1, 0.7, 0.2, 0.8]]]),
        "classes": np.array([[2, 2, 2, 2]]),
        "scores": np.array([[0.9, 0.8, 0.7, 0.85]]),
        "count": np.array([4]),
    }
    metrics = average_precision.average_precision(truths, found)
    expected = (51 * 1 + 50 * 2 / 3) / 101  # recalls 0 to 0.5, and above
    assert metrics["map"] == pytest.approx(expected)
    assert metrics["map50"] == metrics["map75"] == pytest.approx(expected)
    assert metrics["class_map"] == {2: pytest.approx(expected)}
    assert metrics["voc_map50"] == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    assert metrics["recall"] == 1
    assert metrics["map_medium"] == 1  # without the wrong detection, which is small
    assert not {"map_small", "map_large"} & set(metrics)


def test_without_objects_or_detections():
    rng = np.random.default_rng(0)
    truths = {**random_labels(rng, 3), "areas": np.ones((3, SLOTS)), "num_crowds": np.zeros(3, int)}
    truths["size"] = np.full((3, 2), SIDE)
    nothing = {"boxes": np.zeros((3, 1, 4)), "classes": np.zeros((3, 1)), "scores": np.zeros((3, 1))}
    nothing["count"] = np.zeros(3, int)
    assert average_precision.average_precision(truths, nothing)["map"] == 0
    empty = average_precision.average_precision({**truths, "count": np.zeros(3, int)}, nothing)
    assert empty == {"class_map": {}}


class Oracle(keras.layers.Layer):
    """Reads the labels from the first two rows of an image, where `encoded_images` has written them."""

    def __init__(self, shift):
        super().__init__(dtype="float32")
        self.shift = shift

    def call(self, images):
        truth = tf.roll(tf.cast(tf.round(images[:, :2, : 2 * SLOTS]), tf.int32), self.shift, axis=0)
        counts, classes = truth[:, 0, 0, 0], truth[:, 1, :SLOTS, 2]
        corners = tf.reshape(truth[:, 1, :, :2], [-1, SLOTS, 4])
        labels = tf.gather(PLACES, corners) * tf.sequence_mask(counts, SLOTS, tf.float32)[..., tf.newaxis]
        matches = boxes.match(labels, counts, tf.constant(ANCHORS))
        indices = tf.maximum(matches, 0)
        offsets = boxes.encode(tf.gather(labels, indices, batch_dims=1), tf.constant(ANCHORS))
        chosen = tf.gather(classes, indices, batch_dims=1)
        logits = tf.where(matches[..., tf.newaxis] >= 0, 20.0 * (2.0 * tf.one_hot(chosen, CLASSES) - 1.0), -20.0)
        return {
            "classes": logits,
            "boxes": offsets,
            "anchors": tf.tile(ANCHORS[np.newaxis], [tf.shape(images)[0], 1, 1]),
        }


def encoded_images(labels):
    images = np.zeros((len(labels["count"]), SIDE, SIDE, 3), np.uint8)
    images[:, 0, 0, 0] = labels["count"]
    images[:, 1, :SLOTS, 2] = labels["classes"]
    corners = np.round(labels["boxes"] * SIDE).reshape(-1, 2 * SLOTS, 2)
    images[:, 1, : 2 * SLOTS, :2] = corners
    return images


@pytest.fixture(scope="module")
def oracle_labels():
    return random_labels(np.random.default_rng(5), 30)


@pytest.fixture(scope="module")
def oracle_source(oracle_labels):
    images, labels = tf.constant(encoded_images(oracle_labels)), tf.nest.map_structure(tf.constant, oracle_labels)

    def read_row(row):
        count = labels["count"][row]
        label = {name: tf.gather(labels[name], row)[:count] for name in ("boxes", "classes")}
        return {
            "image": tf.io.encode_png(tf.gather(images, row)),
            "label": {**label, "is_crowd": tf.zeros([count], tf.bool)},
        }

    return IndexedSource("oracle", list("abc"), {"test": 30}, read_row, label_kind="boxes", max_boxes=SLOTS)


def oracle_model(shift=0):
    images = keras.Input((SIDE, SIDE, 3))
    return keras.Model(images, Oracle(shift)(images))


@pytest.mark.parametrize("batch_size", [7, 30])
def test_perfect_predictions_have_a_mean_average_precision_of_one(oracle_source, batch_size):
    evaluator = Evaluator(oracle_model(), tf.distribute.get_strategy(), Detection())
    metrics = evaluator.evaluate(oracle_source, "test", batch_size=batch_size, **PLAIN)
    assert metrics["examples"] == 30
    for name in ("map", "map50", "voc_map50", "recall"):
        assert metrics[name] == pytest.approx(1.0), name
    assert metrics["class_map"] == {number: pytest.approx(1.0) for number in range(3)}
    assert metrics["loss"] < 1e-3


def test_shuffled_predictions_have_none(oracle_source):
    evaluator = Evaluator(oracle_model(shift=1), tf.distribute.get_strategy(), Detection())
    assert evaluator.evaluate(oracle_source, "test", batch_size=30, **PLAIN)["map"] < 0.02


def test_saved_model_of_the_oracle(oracle_labels, tmp_path):
    """Its boxes are in pixels of the images that it gets."""
    folder = str(tmp_path / "saved_model")
    export_saved_model(oracle_model(), folder, list("abc"), Detection(), **PLAIN)
    served = tf.saved_model.load(folder)
    images = encoded_images(oracle_labels)
    encoded = tf.constant([tf.io.encode_png(image).numpy() for image in images])
    outputs = {
        "bytes": served.signatures["serving_default"](image_bytes=encoded),
        "images": served.signatures["images"](images=tf.constant(images)),
    }
    truths = {
        **oracle_labels,
        "areas": np.ones((30, SLOTS)),
        "num_crowds": np.zeros(30, int),
        "size": np.full((30, 2), SIDE),
    }
    for found in outputs.values():
        found = {name: values.numpy() for name, values in found.items()}
        found["boxes"] = found["boxes"] / SIDE
        assert average_precision.average_precision(truths, found)["map"] == pytest.approx(1.0)
    raw = served.signatures["images_raw"](images=tf.constant(images))
    assert raw["scores"].shape == (30, len(ANCHORS), CLASSES)
    assert raw["boxes"].shape == (30, len(ANCHORS), 4)
    empty = served.signatures["serving_default"](image_bytes=tf.constant([], tf.string))
    assert {name: values.shape[0] for name, values in empty.items()} == dict.fromkeys(empty, 0)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    workdir = str(tmp_path_factory.mktemp("run"))
    train(tiny.get_config("detection"), workdir, connect(devices="cpu"))
    return workdir


def test_run_evaluation_and_saved_model_agree(workdir, tmp_path):
    lines = read_metrics(workdir)
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert losses[-1] < losses[0]
    assert {"train/class_loss", "train/box_loss", "train/accuracy"} <= set(lines[0])
    evaluated = [line for line in lines if "eval/map" in line]
    assert len(evaluated) == 3
    evaluator = CheckpointEvaluator(load_config(workdir), workdir, connect(devices="cpu"), "train[:50]")
    result = evaluator.evaluate("newest")
    assert result["map"] == pytest.approx(evaluated[-1]["eval/map"], abs=1e-6)
    assert set(result["class_map"]) <= {"disc", "square", "triangle"}
    assert json.loads(json.dumps(result))["class_map"] == result["class_map"]
    config = load_config(workdir)
    # An evaluation with another setting has a file of its own.
    strict = config.copy_and_resolve_references()
    strict.detection.max_detections = 1
    other = CheckpointEvaluator(strict, workdir, connect(devices="cpu"), "train[:50]")
    strict_result = other.evaluate("newest")
    assert strict_result["overrides"] == {"detection.max_detections": 1}
    paths = evaluator.write(result), other.write(strict_result)
    assert paths[0] != paths[1]
    assert paths[1].endswith("_max_detections=1.json")
    source = experiment.open_source(config)
    model = experiment.build_model(config, 3, precision="float32")
    checkpoints.load(workdir, "newest", model, "auto")
    folder = str(tmp_path / "saved_model")
    export_saved_model(model, folder, source.class_names, get_task(config), **experiment.input_settings(config))
    examples = list(source.dataset("train[:50]").as_numpy_iterator())
    images = np.stack([example["image"] for example in examples])
    found = tf.saved_model.load(folder).signatures["images"](images=tf.constant(images))
    found = {name: values.numpy() for name, values in found.items()}
    found["boxes"] = found["boxes"] / 64
    batch = next(iter(data.eval_dataset(source, "train[:50]", batch_size=50, **experiment.eval_settings(config))))
    truths = {name: values.numpy() for name, values in batch["label"].items()}
    assert average_precision.average_precision(truths, found)["map"] == pytest.approx(result["map"], abs=1e-3)


def test_backbone_weights_start_a_detector(tmp_path):
    path = str(tmp_path / "net.weights.h5")
    config = tiny.get_config("detection")
    overrides = config.model.overrides.to_dict()
    classifier = models.create_model(config.model.name, 7, (64, 64, 3), **overrides)
    models.save_weights(classifier, path, overrides)
    config.init.weights = path
    config.epochs, config.schedule.warmup_epochs = 0.2, 0.0
    config.optimizer.learning_rate = 1e-4
    train(config, str(tmp_path / "run"), connect(devices="cpu"), evaluate=False)
    model = experiment.build_model(config, 3)
    checkpoints.load(str(tmp_path / "run"), "newest", model, "raw")
    # After a few steps they are still near the weights of the file, and far from other random ones.
    name = "stem_conv"
    start, now = (net.get_layer(name).get_weights()[0] for net in (classifier, model))
    assert np.abs(start - now).max() < 0.2 * np.abs(start).max()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"class_loss": "Focal"}, "'Focal' is unknown"), ({"match_threshold": 0}, "match_threshold=0 is not")],
)
def test_invalid_settings(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Detection(**arguments)


def test_too_many_boxes_for_the_memory():
    config = tiny.get_config("detection")
    source = experiment.open_source(config)
    check_memory(config, source.num_classes, max_boxes=source.max_boxes, trains=True)
    with pytest.raises(ConfigError, match="with up to 1,000,000,000 boxes of an image"):
        check_memory(config, source.num_classes, max_boxes=10**9, trains=True)


def test_missing_pycocotools(monkeypatch):
    monkeypatch.setattr(average_precision.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install 'convzoo\\[detection\\]'"):
        Evaluator(None, tf.distribute.get_strategy(), Detection())
