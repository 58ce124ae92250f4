"""Evaluation of classification: metrics against scikit-learn and by hand, one pass with padding, and its files."""

import csv
import io
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.programs import run
from PIL import Image
from pyarrow import parquet
from sklearn import calibration, metrics

from convzoo import data, models
from convzoo.configs import base
from convzoo.errors import ConfigError, DataError
from convzoo.files import write_output
from convzoo.tasks import DetailedClassification, get_eval_task, get_task
from convzoo.tasks.classification import Classification
from convzoo.tasks.classification_drawing import draw_confusion_matrix
from convzoo.tasks.classification_metrics import calibration_bins, confused_pairs, confusion_matrix, count_by_class
from convzoo.tasks.real_labels import read_real_labels, real_accuracy
from convzoo.training.devices import connect
from convzoo.training.evaluation import CheckpointEvaluator, Evaluator
from convzoo.training.experiment import config_for_weights

CLASSES = 7


@pytest.fixture(scope="module")
def predictions():
    """Labels, logits and probabilities of 500 examples; class 6 has no examples."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES - 1, 500).astype(np.int32)
    logits = rng.normal(size=(500, CLASSES)).astype(np.float32)
    logits[np.arange(500), labels] += 1.0
    exponentials = np.exp(logits.astype(np.float64))
    return labels, logits, exponentials / exponentials.sum(1, keepdims=True)


def test_classes_and_pairs_agree_with_scikit_learn(predictions):
    labels, logits, _ = predictions
    predicted = logits.argmax(1)
    counts = count_by_class(labels, predicted, CLASSES)
    np.testing.assert_allclose(
        counts.accuracy[:-1], metrics.recall_score(labels, predicted, average=None, labels=range(CLASSES - 1))
    )
    assert np.isnan(counts.accuracy[-1])
    assert counts.examples.sum() == 500
    pairs = confused_pairs(labels, predicted)
    matrix = metrics.confusion_matrix(labels, predicted, labels=range(CLASSES))
    np.testing.assert_array_equal(confusion_matrix(labels, predicted, CLASSES), matrix)
    assert {(label, other): count for label, other, count in pairs.tolist()} == {
        (label, other): matrix[label, other] for label, other in zip(*np.nonzero(matrix), strict=True) if label != other
    }
    assert np.all(np.diff(pairs[:, 2]) <= 0)
    assert confused_pairs(labels, labels).shape == (0, 3)


def test_calibration_error_agrees_with_scikit_learn(predictions):
    labels, logits, probabilities = predictions
    confidences, correct = probabilities.max(1), logits.argmax(1) == labels
    bins = calibration_bins(confidences, correct)
    accuracy, confidence = calibration.calibration_curve(correct, confidences, n_bins=15)
    used = bins.examples > 0
    np.testing.assert_allclose(bins.accuracy[used], accuracy)
    np.testing.assert_allclose(bins.confidence[used], confidence)
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidences > low) & (confidences <= low + 1 / 15)
        if inside.any():
            expected += inside.mean() * abs(correct[inside].mean() - confidences[inside].mean())
    assert bins.error == pytest.approx(expected)
    assert len(bins.examples) == 15


def test_calibration_error_by_hand():
    assert calibration_bins(np.ones(4), np.full(4, True)).error == 0.0
    assert calibration_bins(np.ones(4), np.array([True, False, True, False])).error == 0.5
    # An edge belongs to the bin below it.
    assert calibration_bins(np.array([0.2, 0.21, 1.0]), np.full(3, True), 5).examples.tolist() == [1, 1, 0, 0, 1]


@pytest.mark.parametrize("num_classes", [1, 3, 40, 300])
def test_confusion_matrices_of_all_sizes(num_classes):
    """Also with classes that are never predicted, and names in which matplotlib would see formulas."""
    labels = np.arange(num_classes)
    png = draw_confusion_matrix(labels, labels // 2, [f"$a_{label}$ of a class with a long name" for label in labels])
    width, height = Image.open(io.BytesIO(png)).size
    assert 200 < width < 1300
    assert 200 < height < 1300


def _evaluate(task, predictions, monkeypatch, batch_size=64):
    """The metrics and predictions of `task` for the logits, which take the place of images; the padding is wrong."""
    labels, logits, _ = predictions
    examples = len(labels)
    padding = -examples % batch_size

    def padded_batches(source, split, *, batch_size, **settings):
        return tf.data.Dataset.from_tensor_slices(
            {
                "image": np.pad(logits, [[0, padding], [0, 0]]),
                "label": np.pad(labels, [0, padding]),
                "mask": np.repeat(np.float32([1, 0]), [examples, padding]),
            }
        ).batch(batch_size)

    source = data.open_source(f"fake:classes={CLASSES},size=8,examples={examples}")
    monkeypatch.setattr(data, "eval_dataset", padded_batches)
    inputs = keras.Input((CLASSES,))
    model = keras.Model(inputs, keras.layers.Identity()(inputs))
    evaluator = Evaluator(model, tf.distribute.OneDeviceStrategy("/cpu:0"), task)
    return evaluator.evaluate(source, "test", batch_size=batch_size), evaluator.predictions, source


def test_one_pass_gives_the_metrics_of_known_predictions(predictions, monkeypatch):
    labels, logits, probabilities = predictions
    real_labels = [frozenset({int(label), 6}) if index % 3 else frozenset() for index, label in enumerate(labels)]
    task = DetailedClassification((1, 2, 3), real_labels)
    result, collected, _ = _evaluate(task, predictions, monkeypatch)
    assert result["examples"] == 500
    for k in (1, 2, 3):
        expected = metrics.top_k_accuracy_score(labels, logits, k=k, labels=range(CLASSES))
        assert result[f"top{k}"] == pytest.approx(expected)
    assert "top5" not in result
    assert result["loss"] == pytest.approx(metrics.log_loss(labels, probabilities, labels=range(CLASSES)), rel=1e-4)
    predicted = logits.argmax(1)
    assert result["ece"] == pytest.approx(calibration_bins(probabilities.max(1), predicted == labels).error, abs=1e-6)
    np.testing.assert_allclose(
        [*result["class_accuracy"].values()],
        metrics.recall_score(labels, predicted, average=None, labels=range(CLASSES - 1)),
    )
    assert sum(result["class_examples"].values()) == 500
    counted = np.arange(500) % 3 > 0
    assert result["real_examples"] == counted.sum()
    assert result["real_top1"] == pytest.approx(((predicted == labels) | (predicted == 6))[counted].mean())
    np.testing.assert_array_equal(collected["index"], np.arange(500))
    np.testing.assert_array_equal(collected["classes"], np.argsort(-logits, 1)[:, :3])
    np.testing.assert_allclose(collected["probabilities"], -np.sort(-probabilities, 1)[:, :3], rtol=1e-4)
    np.testing.assert_allclose(collected["losses"], -np.log(probabilities[np.arange(500), labels]), rtol=1e-4)
    assert task.summary(result)["top-2 %"] == f"{100 * result['top2']:.2f}"
    classes, pairs = task.summary_tables(result)
    assert classes[0]["top-1 %"] == f"{100 * min(result['class_accuracy'].values()):.2f}"
    assert len(pairs) == 10


@pytest.mark.parametrize("shift", [0, 1])
def test_perfect_and_wrong_predictions(shift, monkeypatch):
    labels = (np.arange(40) % CLASSES).astype(np.int32)
    logits = 50 * np.eye(CLASSES, dtype=np.float32)[(labels + shift) % CLASSES]
    result, collected, source = _evaluate(DetailedClassification(), (labels, logits, None), monkeypatch)
    assert result["top1"] == result["class_accuracy"][0] == 1 - shift
    assert result["ece"] == pytest.approx(shift, abs=1e-6)
    assert len(result["confused_pairs"]) == CLASSES * shift
    assert len(DetailedClassification().summary_tables(result)[1]) == CLASSES * shift
    files = DetailedClassification().eval_files(collected, source, "test", {})
    matrix = [line.split(",") for line in files["confusion_matrix.csv"].decode().splitlines()]
    expected = metrics.confusion_matrix(labels, (labels + shift) % CLASSES)
    assert [[int(cell) for cell in row[1:]] for row in matrix[1:]] == expected.tolist()
    assert len(files["confused_pairs.csv"].decode().splitlines()) == 1 + CLASSES * shift


def test_training_collects_nothing():
    config = base.get_config()
    assert type(get_task(config)) is Classification
    assert get_task(config).prediction_dtypes == {}
    config.classification.eval_top_k = (1, 3)
    source = data.open_source("fake:classes=3,size=8,examples=4")
    assert get_eval_task(config, source, "test").eval_top_k == get_task(config).eval_top_k == (1, 3)
    config.task = "segmentation"
    with pytest.raises(ConfigError, match="--top_losses=3 applies to classification, not to segmentation"):
        get_eval_task(config, source, "test", top_losses=3)


def test_real_accuracy_by_hand(caplog):
    classes = np.array([[0, 1], [1, 2], [2, 0], [3, 1]])
    real_labels = [{1, 3}, {1}, set(), {0}]
    assert real_accuracy(classes, np.array([1, 1, 2, 3]), real_labels, (1, 2)) == {
        "real_top1": 1 / 3,
        "real_top2": 2 / 3,
        "real_examples": 3,
    }
    assert not caplog.records
    real_accuracy(classes, np.array([0, 0, 0, 1]), real_labels, (1,))
    assert "check the order" in caplog.text
    assert real_accuracy(classes, np.zeros(4, int), [set()] * 4, (1,)) == {}


def test_real_labels_follow_the_numbers_in_file_names(tmp_path):
    for number in (3, 1, 7):
        for name in ("ILSVRC2012_val_{:08d}.png", "image_{}.png"):
            folder = "val" if name[0] == "I" else "other"
            path = tmp_path / folder / "ab"[number > 2] / name.format(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tf.io.encode_png(np.zeros((4, 4, 3), np.uint8)).numpy())
    source = data.open_source(f"folder:{tmp_path}")
    file = tmp_path / "real.json"
    file.write_text("[[1], [], [0, 1], [], [], [], []]")
    numbers = [int(name[-12:-4]) for name in source.example_names("val")]
    of_number = {1: {1}, 3: {0, 1}, 7: set()}
    assert read_real_labels(str(file), source, "val") == [of_number[number] for number in numbers]
    # An image whose name cannot be read does not count.
    mixed = read_real_labels(str(file), source, "val+other[:1]")
    assert mixed == [*(of_number[number] for number in numbers), set()]
    with pytest.raises(ConfigError, match=r"7 lists and other of .* has 3 images"):
        read_real_labels(str(file), source, "other")
    file.write_text("[[0], [1], [0, 1]]")
    assert read_real_labels(str(file), source, "other") == [{0}, {1}, {0, 1}]
    with pytest.raises(ConfigError, match=r"3 lists, too few for .*ILSVRC2012_val_00000007"):
        read_real_labels(str(file), source, "val")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[[0], [1]", "cannot read"),
        ("[" * 100_000, "cannot read"),
        ('{"0": [1]}', "list of lists"),
        ("[0, 1, 2]", "list of lists"),
        ("[[0], [3], []]", "list 1 has '3'; use class indices from 0 to 2"),
        ("[[0], [true], []]", "list 1 has 'True'"),
        ("[[0], [1.0], []]", r"list 1 has '1\.0'"),
        ("[[], [], []]", "no label for any image"),
        ("[[0], [1]]", "2 lists and test of .* has 3 images"),
    ],
)
def test_wrong_files_of_real_labels(content, problem, tmp_path):
    file = tmp_path / "real.json"
    file.write_text(content)
    with pytest.raises(ConfigError, match=problem) as error:
        read_real_labels(str(file), data.open_source("fake:classes=3,size=8,examples=3"), "test")
    assert "\n" not in str(error.value)
    assert str(file) in str(error.value)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of untrained weights, and a folder of images of which one is corrupt."""
    folder = tmp_path_factory.mktemp("weights")
    keras.utils.set_random_seed(0)
    overrides = {"blocks": ((8, 1),), "stem_strides": 1}
    model = models.create_model("mobilenet_v1_x0_25", 4, (16, 16, 3), **overrides)
    models.save_weights(model, str(folder / "net.weights.h5"), overrides)
    rng = np.random.default_rng(0)
    for number in range(22):
        path = folder / "images" / "test" / "abcd"[number % 4] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_png(rng.integers(0, 256, (16, 16, 3), np.uint8)).numpy())
    (folder / "images" / "test" / "a" / "8.png").write_bytes(b"corrupt")
    return folder


def _rows(content):
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_files_name_the_images_and_leave_corrupt_ones_out(weights, tmp_path):
    config = config_for_weights(str(weights / "net.weights.h5"), f"folder:{weights}/images", image_size=16)
    evaluator = CheckpointEvaluator(
        config, None, connect(devices="cpu"), "test", batch_size=8, predictions="parquet", top_losses=5
    )
    with pytest.raises(DataError, match="corrupt"):
        evaluator.evaluate(str(weights / "net.weights.h5"))
    with config.unlocked():
        config.data.max_corrupt_fraction = 0.1
    evaluator = CheckpointEvaluator(
        config, None, connect(devices="cpu"), "test", batch_size=8, predictions="parquet", top_losses=5
    )
    result = evaluator.evaluate(str(weights / "net.weights.h5"))
    path = evaluator.write(result, str(tmp_path / "result.json"))
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert result["examples"] == 21
    table = parquet.read_table(f"{path}.predictions.parquet").to_pydict()
    source = data.open_source(f"folder:{weights}/images")
    names = source.example_names("test")
    assert [names[index] for index in table["index"]] == table["name"]
    assert {*names} - {*table["name"]} == {f"{weights}/images/test/a/8.png"}
    assert table["label_name"] == [name.split("/")[-2] for name in table["name"]]
    assert np.mean(np.equal(table["label"], table["class_1"])) == pytest.approx(result["top1"])
    assert np.mean(table["loss"]) == pytest.approx(result["loss"], rel=1e-5)
    assert set(result["class_accuracy"]) == {*"abcd"}
    rows = _rows((tmp_path / "result.json.classes.csv").read_bytes())
    assert sum(int(row["correct"]) for row in rows) == round(result["top1"] * 21)
    for name in ("confusion_matrix", "reliability_diagram", "top_losses"):
        assert Image.open(f"{path}.{name}.png").size > (100, 100)
    # A file of another kind is not replaced, and then nothing is.
    (tmp_path / "result.json.predictions.parquet").write_text("the user's")
    (tmp_path / "result.json").unlink()
    with pytest.raises(ConfigError, match="text file would be replaced by a Parquet file"):
        evaluator.write(result, path)
    assert not (tmp_path / "result.json").exists()
    write_output(f"{tmp_path}/result.json.classes.csv", b"class\n")  # its own files are


def test_replicas_predict_the_same(weights, tmp_path):
    tables = []
    for devices in ("cpu", "cpu:2"):
        output = tmp_path / f"{devices}.json"
        flags = [f"--source=fake:classes=4,size=16,examples={21}", "--split=test", "--batch_size=8", "--image_size=16"]
        outputs = ["--predictions=csv", f"--output={output}"]
        finished = run("eval.py", f"--checkpoint={weights}/net.weights.h5", f"--devices={devices}", *flags, *outputs)
        assert finished.returncode == 0, finished.stderr
        assert "ECE %" in finished.stdout
        tables.append(_rows((tmp_path / f"{devices}.json.predictions.csv").read_bytes()))
    assert len(tables[0]) == 21
    for one, two in zip(*tables, strict=True):
        assert one["index"] == two["index"]
        assert int(one["label"]) == int(one["index"]) % 4 == int(two["label"])
        assert float(one["loss"]) == pytest.approx(float(two["loss"]), rel=1e-4)
        assert one["class_1"] == two["class_1"]
