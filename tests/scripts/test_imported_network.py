"""A published network from its weights to a served answer, as a user takes it: import, evaluate, export."""

import json

import numpy as np
import pytest
import tensorflow as tf
from goldens import stand_in
from helpers.programs import run, usage_error

from convzoo import data, models
from convzoo.training import experiment

GOLDEN, NAME = "timm_mobilenetv2_100", "mobilenet_v2_x1_0"
SOURCE = "fake:classes=1000,size=96,examples=12"
SIZE = 96


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imported")
    np.savez(folder / "published.npz", **stand_in.load(GOLDEN))
    result = run(
        "scripts/import_weights.py", "--source=timm", f"--checkpoint={folder}/published.npz", f"--model={NAME}",
        f"--output={folder}/a.weights.h5",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return folder


def test_export_without_data(folder, tmp_path):
    names = [f"class {label}" for label in range(1000)]
    file = tmp_path / "names.txt"
    file.write_text("\n".join(names) + "\n")
    weights = [f"--checkpoint={folder}/a.weights.h5", f"--image_size={SIZE}"]
    for flag, expected in (
        (f"--class_names={file}", names),
        ("--source=tfds:imagenet2012", data.class_names("tfds:imagenet2012")),  # not prepared
    ):
        output = tmp_path / flag.partition("=")[0].strip("-")
        result = run("scripts/export.py", *weights, flag, f"--output={output}", f"--data_dir={tmp_path}")
        assert result.returncode == 0, result.stderr
        assert (output / "assets" / "labels.txt").read_text().splitlines() == expected
    for text, flags, value in (
        ("a\nb\n", [], "names 2 classes, the network has 1000"),
        ("a\n\nb\n", [], "line 2 "),
        ("a\nb\na\n", [], "lines 1 and 3 "),
        (None, [], "names.txt"),
        ("a\n", [f"--source={SOURCE}"], "--source exclude each other"),
    ):
        file.unlink() if text is None else file.write_text(text)
        arguments = [*weights, *flags, f"--class_names={file}", f"--output={tmp_path}/none"]
        assert value in usage_error(run("scripts/export.py", *arguments))
    assert not (tmp_path / "none").exists()


def test_evaluate_and_export_an_imported_network(folder):
    weights = [f"--checkpoint={folder}/a.weights.h5", f"--source={SOURCE}", f"--image_size={SIZE}"]
    result = run("eval.py", *weights, "--split=test")
    assert result.returncode == 0, result.stderr
    (path,) = folder.glob("a_fake*_test.json")
    record = json.loads(path.read_text())
    assert (record["examples"], record["model"], record["step"], record["image_size"]) == (12, NAME, None, SIZE)

    result = run("scripts/export.py", *weights, f"--output={folder}/saved_model")
    assert result.returncode == 0, result.stderr
    assert (folder / "saved_model" / "assets" / "labels.txt").read_text().splitlines() == [
        str(label) for label in range(1000)
    ]
    # What is served and what was evaluated are the network with its published preprocessing.
    source = data.open_source(SOURCE)
    info = models.info(NAME)
    inputs = {
        "image_size": (SIZE, SIZE),
        "mean": info.preprocessing.mean,
        "std": info.preprocessing.std,
        "crop_fraction": info.preprocessing.crop_fraction,
        "interpolation": info.preprocessing.interpolation,
    }
    batch = next(iter(data.eval_dataset(source, "test", batch_size=12, **inputs)))
    model = models.create_model(NAME, input_shape=(SIZE, SIZE, 3), weights=f"{folder}/a.weights.h5")
    logits = model(batch["image"], training=False).numpy()
    right = np.mean(np.argmax(logits, -1) == batch["label"].numpy())
    assert record["top1"] == pytest.approx(right)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["label"], logits)
    assert record["loss"] == pytest.approx(float(np.mean(losses)), rel=1e-4)
    images = np.random.default_rng(0).integers(0, 256, (2, 120, 100, 3), dtype=np.uint8)
    served = tf.saved_model.load(f"{folder}/saved_model").signatures["images"](images=tf.constant(images))
    prepared = data.eval_transform(tf.constant(images), **inputs)
    np.testing.assert_allclose(served["logits"], model(prepared, training=False), rtol=1e-4, atol=1e-4)


def test_evaluate_on_images_of_a_few_classes(folder, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("zebra", "ant"):
        (tmp_path / "images" / "test" / name).mkdir(parents=True)
        for number in range(3):
            image = tf.io.encode_png(rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8))
            (tmp_path / "images" / "test" / name / f"{number}.png").write_bytes(image.numpy())
    weights = [f"--checkpoint={folder}/a.weights.h5", f"--source=folder:{tmp_path}/images", f"--image_size={SIZE}"]
    names = tmp_path / "names.txt"
    labels = {"zebra": 17, "ant": 980}
    lines = [next((name for name, label in labels.items() if label == n), f"class {n}") for n in range(1000)]
    names.write_text("\ufeff" + "\r\n".join(lines))  # as editors on Windows save it
    output = tmp_path / "result.json"
    arguments = [f"--class_names={names}", "--split=test", f"--output={output}", "--batch_size=2"]
    result = run("eval.py", *weights, *arguments)
    assert result.returncode == 0, result.stderr
    record = json.loads(output.read_text())
    assert record["examples"] == 6
    source = data.RelabeledSource(data.open_source(f"folder:{tmp_path}/images"), lines)
    preprocessing = models.info(NAME).preprocessing
    inputs = {"image_size": (SIZE, SIZE), "mean": preprocessing.mean, "std": preprocessing.std}
    batch = next(iter(data.eval_dataset(source, "test", batch_size=6, **inputs)))
    assert sorted(batch["label"].numpy()) == [17] * 3 + [980] * 3
    model = models.create_model(NAME, input_shape=(SIZE, SIZE, 3), weights=f"{folder}/a.weights.h5")
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["label"], model(batch["image"], training=False))
    assert record["loss"] == pytest.approx(float(np.mean(losses)), rel=1e-4)

    names.write_text("\n".join(line.replace("ant", "emmet") for line in lines))
    assert "lack: ant" in usage_error(run("eval.py", *weights, *arguments))
    names.write_text("zebra\nant\n")
    assert "names 2 classes, the network has 1000" in usage_error(run("eval.py", *weights, *arguments))
    for flag in ("--workdir=x", "--checkpoint=best"):
        assert "leave it out for a run" in usage_error(run("eval.py", flag, f"--class_names={names}"))


def test_weights_remember_the_normalization_of_their_images(tmp_path):
    path = str(tmp_path / "a.weights.h5")
    model = models.create_model("mobilenet_v1_x0_25", 10, (32, 32, 3))
    models.save_weights(model, path, preprocessing={"mean": (127.5,) * 3, "std": (64.0,) * 3})
    config = experiment.config_for_weights(path, "fake:classes=10,size=32,examples=4")
    settings = experiment.input_settings(config)
    assert (settings["mean"], settings["std"]) == ((127.5,) * 3, (64.0,) * 3)
    models.save_weights(model, path)
    settings = experiment.input_settings(experiment.config_for_weights(path, None))
    assert settings["mean"] == models.info("mobilenet_v1_x0_25").preprocessing.mean


@pytest.mark.parametrize(
    ("program", "arguments", "message"),
    [
        ("eval.py", [], "--source is missing"),
        ("eval.py", ["--source=fake:classes=7,size=96,examples=4"], "are for 1000 classes and the data has 7"),
        ("eval.py", [f"--source={SOURCE}", "--workdir=x"], "--workdir=x"),
        ("eval.py", [f"--source={SOURCE}", "--weights=ema"], "leave out --weights=ema"),
        ("eval.py", [f"--source={SOURCE}", "--follow"], "--follow"),
        ("scripts/export.py", [f"--source={SOURCE}"], "--output is missing"),
    ],
    ids=["no_source", "classes", "workdir", "average", "follow", "no_output"],
)
def test_invalid_arguments(folder, program, arguments, message):
    assert message in usage_error(run(program, f"--checkpoint={folder}/a.weights.h5", *arguments))


def test_missing_file_and_file_without_metadata(folder):
    missing = usage_error(run("eval.py", f"--checkpoint={folder}/none.weights.h5", f"--source={SOURCE}"))
    assert "none.weights.h5" in missing
    models.create_model("mobilenet_v1_x0_25", 10).save_weights(folder / "keras.weights.h5")
    unknown = usage_error(run("eval.py", f"--checkpoint={folder}/keras.weights.h5", f"--source={SOURCE}"))
    assert "do not name their network" in unknown
    assert "--source applies to a .weights.h5 file" in usage_error(run("eval.py", "--workdir=x", f"--source={SOURCE}"))
