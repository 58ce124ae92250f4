"""Verification: losses against NumPy in float64, metrics against scikit-learn, a run, its evaluation and its export."""

import json

import numpy as np
import pytest
import tensorflow as tf
from helpers import tiny
from helpers.programs import run, usage_error
from sklearn import metrics

from convzoo.configs.schema import validate
from convzoo.errors import ConfigError, DataError
from convzoo.tasks import Verification
from convzoo.tasks.task import cross_entropy
from convzoo.tasks.verification import with_margin
from convzoo.tasks.verification_metrics import best_threshold, pair_metrics, rank1
from convzoo.training.devices import connect
from convzoo.training.evaluation import CheckpointEvaluator
from convzoo.training.loop import train
from convzoo.training.metrics import read_metrics
from convzoo.training.workdir import load_config


def _arcface(angles, margin):
    """The cosine of the true class after ArcFace's margin, float64, and its derivative by the cosine."""
    cosines, sines = np.cos(angles), np.sin(angles)
    inside = angles + margin < np.pi
    moved = np.where(inside, np.cos(angles + margin), cosines - margin * np.sin(margin))
    slope = np.where(inside, np.sin(angles + margin) / sines, 1.0)
    return moved, slope


@pytest.mark.parametrize("margin", [0.2, 0.5, 1.0])
def test_arcface_and_its_gradient(margin):
    """Also on both sides of pi - margin, where the angle would pass pi."""
    angles = np.concatenate([np.linspace(0.05, 3.1, 40), np.pi - margin + np.array([-0.01, -1e-4, 1e-4, 0.01])])
    cosines = tf.constant(np.stack([np.cos(angles), np.full(len(angles), 0.3)], 1), tf.float32)
    labels = tf.zeros(len(angles), tf.int32)
    with tf.GradientTape() as tape:
        tape.watch(cosines)
        outputs = with_margin(labels, cosines, margin, is_angle=True)
    moved, slope = _arcface(np.arccos(cosines[:, 0].numpy().astype("float64")), margin)
    np.testing.assert_allclose(outputs[:, 0], moved, atol=2e-5)
    assert np.all(outputs[:, 1] == cosines[:, 1])
    gradient = tape.gradient(outputs, cosines).numpy()
    np.testing.assert_allclose(gradient[:, 0], slope, rtol=1e-3)
    assert np.all(gradient[:, 1] == 1)


@pytest.mark.parametrize("cosine", [1.0, -1.0])
def test_gradients_are_finite_at_the_ends(cosine):
    cosines = tf.constant([[cosine, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(cosines)
        outputs = with_margin(tf.constant([0]), cosines, 0.5, is_angle=True)
    assert np.all(np.isfinite(tape.gradient(outputs, cosines)))


@pytest.mark.parametrize("name", ["arcface", "cosface", "softmax"])
def test_losses(name):
    rng = np.random.default_rng(0)
    cosines, labels = rng.uniform(-1, 1, (6, 5)), rng.integers(0, 5, 6)
    logits = cosines.copy()
    true = cosines[np.arange(6), labels]
    moved = {"arcface": _arcface(np.arccos(true), 0.5)[0], "cosface": true - 0.35, "softmax": true}
    logits[np.arange(6), labels] = moved[name]
    exponentials = np.exp(16 * logits)
    expected = -np.log(exponentials[np.arange(6), labels] / exponentials.sum(1))
    outputs = {"cosines": tf.constant(cosines, tf.float32)}
    losses = Verification(loss=name, scale=16.0).losses(tf.constant(labels, tf.int32), outputs)
    np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["arcface", "cosface"])
def test_without_a_margin_it_is_normalized_softmax(name):
    cosines = np.random.default_rng(0).uniform(-1, 1, (6, 5))
    outputs, labels = {"cosines": tf.constant(cosines, tf.float32)}, tf.constant([0, 1, 2, 3, 4, 0])
    losses = Verification(loss=name, margin=1e-7).losses(labels, outputs)
    np.testing.assert_allclose(losses, cross_entropy(labels, 64.0 * outputs["cosines"]), rtol=1e-4, atol=1e-4)


def _pairs(count=2400):
    rng = np.random.default_rng(0)
    is_same = rng.uniform(size=count) < 0.5
    scores = np.round(rng.normal(size=count) + 1.5 * is_same, 2)  # some scores are equal
    return scores, is_same, np.arange(count) % 10


def test_folds_and_rates_agree_with_scikit_learn():
    scores, is_same, folds = _pairs()
    result = pair_metrics(scores, is_same, folds)
    accuracies = []
    for fold in range(10):
        others, own = folds != fold, folds == fold
        false_accepts, true_accepts, thresholds = metrics.roc_curve(
            is_same[others], scores[others], drop_intermediate=False
        )
        correct = true_accepts * is_same[others].sum() + (1 - false_accepts) * (~is_same[others]).sum()
        threshold = thresholds[np.argmax(correct)]  # a pair is accepted from its own score on
        accuracies.append(np.mean((scores[own] >= threshold) == is_same[own]))
    assert result["accuracy"] == pytest.approx(np.mean(accuracies), abs=2e-3)
    assert result["auc"] == pytest.approx(metrics.roc_auc_score(is_same, scores))
    # The rates by counting: the threshold is above all but so many scores of different identities.
    different = np.sort(scores[~is_same])[::-1]
    for rate in (1e-1, 1e-2, 1e-3):
        threshold = different[int(rate * len(different) + 1e-9)]
        expected = np.mean(scores[is_same] > threshold)
        assert result[f"tar_at_far_1e-{round(-np.log10(rate))}"] == pytest.approx(expected)
    assert "tar_at_far_1e-4" not in result  # a thousand pairs cannot show it


def test_best_threshold_has_the_fewest_errors():
    scores, is_same, _ = _pairs(300)
    threshold = best_threshold(scores, is_same)
    best = max(np.mean((scores >= value) == is_same) for value in np.linspace(-6, 6, 2401))
    assert np.mean((scores >= threshold) == is_same) == best
    assert best_threshold(np.array([0.1, 0.9]), np.array([True, False])) > 0.9  # accept none
    perfect = np.array([0.9, 0.8, 0.2, 0.1]), np.array([True, True, False, False])
    assert best_threshold(*perfect) == pytest.approx(0.5)
    assert pair_metrics(*perfect, np.zeros(4, int))["accuracy"] == 1.0


def test_rank1_by_hand():
    angles = {"a": (0.0, 0.3, 0.5), "b": (0.4, 1.4), "c": (3.0,)}
    vectors = np.array([[np.cos(angle), np.sin(angle)] for name in angles for angle in angles[name]])
    identities = np.array([0, 0, 0, 1, 1, 2])
    # Mates: a 0.0 -> 0.3, 0.3 -> 0.5 (b 0.4 is nearer), 0.5 -> 0.0 (b 0.4 is nearer); b 0.4 -> 1.4 (a is nearer),
    # 1.4 -> 0.4 (a 0.5 is nearer). c has no mate.
    assert rank1(vectors, identities) == pytest.approx(1 / 5)
    order = [3, 5, 0, 4, 1, 2]
    assert rank1(vectors[order], identities[order]) == pytest.approx(1 / 5)
    assert rank1(vectors[[0, 3, 5]], identities[[0, 3, 5]]) is None


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    workdir = str(tmp_path_factory.mktemp("run"))
    train(tiny.get_config("verification"), workdir, connect(devices="cpu"))
    return workdir


def test_run_evaluation_and_saved_model_agree(workdir, tmp_path):
    lines = read_metrics(workdir)
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert losses[-1] < losses[0]
    evaluated = [line for line in lines if "eval/accuracy" in line]
    assert len(evaluated) == 3
    evaluator = CheckpointEvaluator(load_config(workdir), workdir, connect(devices="cpu"), batch_size=10)
    result = evaluator.evaluate("newest")
    assert result["accuracy"] == pytest.approx(evaluated[-1]["eval/accuracy"], abs=0.02)
    assert result["source"] == "digits:classes=7-9"
    path = evaluator.write(result, str(tmp_path / "result.json"))
    assert json.loads((tmp_path / "result.json").read_text())["pairs"] == result["pairs"] == 100
    for name in ("roc", "scores", "hardest_pairs"):
        assert (tmp_path / f"result.json.{name}.png").read_bytes().startswith(b"\x89PNG")
    assert path.endswith("result.json")

    folder = str(tmp_path / "saved_model")
    exported = run("scripts/export.py", f"--workdir={workdir}", "--checkpoint=newest", f"--output={folder}")
    assert exported.returncode == 0, exported.stderr
    signatures = tf.saved_model.load(folder).signatures
    source = evaluator._source
    pairs = source.pairs("test")
    images = [example["image"] for example in source.dataset("test")]
    embeddings = signatures["images"](images=tf.image.grayscale_to_rgb(tf.stack(images)))["embeddings"].numpy()
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)
    scores = np.sum(embeddings[pairs.first] * embeddings[pairs.second], -1)
    assert pair_metrics(scores, pairs.is_same, pairs.folds)["accuracy"] == pytest.approx(result["accuracy"], abs=0.02)

    first, second = pairs.first[0], pairs.second[0]
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for file, number in zip(files, (first, second), strict=True):
        file.write_bytes(tf.io.encode_png(images[number]).numpy())
    command = ("scripts/verify.py", f"--saved_model={folder}")
    verified = run(*command, "--threshold=-1", *map(str, files))
    assert verified.stdout == f"cosine {scores[0]:.4f}, same identity\n", verified.stderr
    (tmp_path / "text.png").write_text("text")
    for arguments, message in (
        (files[:1], "compares two images, not 1"),
        ((files[0], tmp_path / "no.png"), "cannot read"),
        ((files[0], tmp_path / "text.png"), "is not an image"),
        (("--saved_model=" + str(tmp_path / "no"), *files), "as a SavedModel"),
        (("--threshold=nan", *files), "--threshold=nan is no number"),
        ((tmp_path, files[0]), "is not a regular file"),
    ):
        assert message in usage_error(run(*command, *map(str, arguments)))


def test_mirror_images_add_up(workdir):
    config = load_config(workdir)
    evaluator = CheckpointEvaluator(config, workdir, connect(devices="cpu"))
    images = tf.random.stateless_uniform([2, 16, 16, 3], [0, 0])
    model, task = evaluator._model, Verification(mirror=True)
    outputs = task.predict(model, images)["embeddings"].numpy()
    np.testing.assert_allclose(outputs, task.predict(model, images[:, :, ::-1])["embeddings"], rtol=1e-4, atol=1e-5)
    alone = Verification(mirror=False).predict(model, images)["embeddings"].numpy()
    assert np.abs(outputs - 2 * alone).max() > 1e-3


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("data.mixup", 0.2, "mixup=0.2 does not fit"),
        ("verification.margin", 0.5, "margin=0.5 has no effect"),
        ("verification.num_pairs", 1, "num_pairs=1"),
    ],
)
def test_invalid_configs(field, value, message):
    config = tiny.get_config("verification")
    config.verification.loss = "softmax"
    section, name = field.split(".")
    config[section][name] = value
    with pytest.raises(ConfigError, match=message):
        validate(config, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "triplet"}, "'triplet' is unknown"),
        ({"scale": float("nan")}, "scale=nan"),
        ({"margin": 0}, "margin=0"),
    ],
)
def test_invalid_settings(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Verification(**arguments)


def test_a_training_needs_its_pairs_only_to_evaluate(tmp_path):
    config = tiny.get_config("verification")
    config.epochs, config.schedule.warmup_epochs = 0.25, 0.0
    config.verification.pairs = "pairs:/no/images,/no/pairs.txt"
    train(config, str(tmp_path / "run"), connect(devices="cpu"), evaluate=False)
    config.verification.pairs = "digits:classes=7-7"
    with pytest.raises(DataError, match="both kinds are needed"):
        train(config, str(tmp_path / "other"), connect(devices="cpu"))
    assert not (tmp_path / "other").exists()
