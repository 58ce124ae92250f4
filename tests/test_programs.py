"""The programs as a user runs them, each in its own process: train, evaluate, export, classify, and errors."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from helpers.programs import ROOT, TINY, run, usage_error

import convzoo


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A finished run of the tiny experiment on the digits."""
    folder = tmp_path_factory.mktemp("programs") / "run"
    result = run(
        "train.py", f"--config={TINY}", f"--workdir={folder}", "--config.data.source=digits",
        "--config.data.train_split=train[:128]",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    # What TensorFlow Datasets says when it prepares the digits comes first, and only once.
    lines = result.stdout.splitlines()
    (opening,) = [line for line in lines if line.startswith("1 x cpu (no GPU found, no TPU requested), 16 examples")]
    assert opening.endswith("efficientnet_condconv_b0_4e on digits, 24 steps; starting at step 0")
    assert lines[-2].startswith("step 24/24  loss ")
    for word in ("accuracy", "learning rate", "images/s", "left 0:00:00"):
        assert word in lines[-2]
    assert lines[-1].startswith("step 24  evaluated on train[:50] (50 examples, ema weights): top-1 ")
    return folder


def test_evaluate(workdir):
    result = run("eval.py", f"--workdir={workdir}", "--checkpoint=best", "--split=test")
    assert result.returncode == 0, result.stderr
    assert "top-1 %" in result.stdout
    (written,) = (workdir / "evaluations").glob("*_ema_test.json")
    record = json.loads(written.read_text())
    assert record["examples"] == 359
    assert f"{record['top1']:.2%}"[:-1] in result.stdout


@pytest.fixture(scope="module")
def saved_model(workdir):
    result = run("scripts/export.py", f"--workdir={workdir}", "--weights=raw")
    assert result.returncode == 0, result.stderr
    assert not (workdir / "saved_model.unfinished").exists()
    return workdir / "saved_model"


# Runs in a process that cannot import convzoo or Keras.
_SERVE = """
import sys
for blocked in ("convzoo", "keras"):
    sys.modules[blocked] = None
import numpy as np, tensorflow as tf
folder, images, answers = sys.argv[1:]
loaded = tf.saved_model.load(folder)
given = np.load(images)
encoded = [bytes(given[name]) for name in ("png", "jpeg", "gray")]
answer = {f"bytes/{k}": v for k, v in loaded.signatures["serving_default"](image_bytes=tf.constant(encoded)).items()}
for kind, batch in (("uint8", given["batch"]), ("float", given["batch"].astype("float32"))):
    answer |= {f"{kind}/{k}": v for k, v in loaded.images(tf.constant(batch)).items()}
signature = loaded.signatures["images"](images=tf.constant(given["batch"]))
answer |= {f"signature/{k}": v for k, v in signature.items()}
np.savez(answers, **{k: v.numpy() for k, v in answer.items()})
"""


def test_the_saved_model_answers_as_the_checkpoint_does(workdir, saved_model, tmp_path):
    from convzoo import data
    from convzoo.training import checkpoints, experiment
    from convzoo.training import workdir as workdirs

    draw = np.random.default_rng(0)
    color = draw.integers(0, 256, (40, 30, 3), dtype=np.uint8)
    gray = draw.integers(0, 256, (17, 19, 1), dtype=np.uint8)
    encoded = {
        "png": tf.io.encode_png(color).numpy(),
        "jpeg": tf.io.encode_jpeg(color).numpy(),
        "gray": tf.io.encode_png(gray).numpy(),
    }
    batch = draw.integers(0, 256, (5, 21, 33, 3), dtype=np.uint8)
    images = {name: np.frombuffer(value, np.uint8) for name, value in encoded.items()}
    np.savez(tmp_path / "images.npz", batch=batch, **images)
    result = subprocess.run(
        [sys.executable, "-c", _SERVE, saved_model, tmp_path / "images.npz", tmp_path / "answers.npz"],
        capture_output=True, text=True, timeout=600, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    answers = np.load(tmp_path / "answers.npz")

    experiment_config = workdirs.load_config(str(workdir))
    model = experiment.build_model(experiment_config, 10, precision="float32")
    checkpoints.restore_weights(checkpoints.find_checkpoint(str(workdir), "newest"), model, "raw")
    settings = experiment.input_settings(experiment_config)

    def logits(images):
        return model(tf.stack([data.eval_transform(image, **settings) for image in images]), training=False).numpy()

    want = {"bytes": logits([data.decode_image(value) for value in encoded.values()]), "uint8": logits(batch)}
    want["float"] = want["signature"] = want["uint8"]
    for kind, expected in want.items():
        np.testing.assert_allclose(answers[f"{kind}/logits"], expected, atol=1e-5, rtol=1e-5, err_msg=kind)
        np.testing.assert_array_equal(answers[f"{kind}/classes"], expected.argmax(-1))
        np.testing.assert_allclose(answers[f"{kind}/probabilities"].sum(-1), 1.0, rtol=1e-5)


def test_classify_images_and_other_files(saved_model, tmp_path):
    image, text, damaged = tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.png"
    encoded = tf.io.encode_png(np.zeros((20, 20, 1), np.uint8)).numpy()
    image.write_bytes(encoded)
    text.write_text("not an image")
    damaged.write_bytes(encoded[:40])
    result = run("scripts/classify.py", f"--model={saved_model}", image)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"{image}: ")
    for path in (text, damaged):
        line = usage_error(run("scripts/classify.py", f"--model={saved_model}", path))
        reason = "corrupt" if path == damaged else "not an image (JPEG, PNG, BMP, GIF or still WebP)"
        assert line == f"classify.py: {str(path)!r} is {reason}"
    assert "cannot read" in usage_error(run("scripts/classify.py", f"--model={saved_model}", tmp_path / "d.png"))
    assert "as a SavedModel" in usage_error(run("scripts/classify.py", f"--model={tmp_path}", image))


def test_saved_model_rejects_other_bytes(saved_model):
    loaded = tf.saved_model.load(str(saved_model))
    good = tf.io.encode_png(np.zeros((20, 20, 1), np.uint8))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"not an image .* at batch index"):
        loaded.signatures["serving_default"](image_bytes=tf.stack([good, tf.constant(b"text")]))


def test_saved_model_refuses_images_of_too_many_pixels(saved_model):
    loaded = tf.saved_model.load(str(saved_model))
    assert int(loaded.max_pixels) == 50_000_000
    header = tf.io.encode_png(np.zeros((1, 1, 1), np.uint8)).numpy()
    huge = header[:16] + (20_000).to_bytes(4, "big") * 2 + header[24:]
    good = tf.io.encode_png(np.zeros((20, 20, 1), np.uint8))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"more than 50000000 pixels at batch index"):
        loaded.signatures["serving_default"](image_bytes=tf.stack([good, tf.constant(huge)]))


def test_saved_model_of_no_images_and_of_images_that_are_not_finite(saved_model):
    signatures = tf.saved_model.load(str(saved_model)).signatures
    empty = {
        "serving_default": {"image_bytes": tf.constant([], tf.string)},
        "images": {"images": tf.zeros([0, 30, 40, 3], tf.uint8)},
        "images_float": {"images": tf.zeros([0, 30, 40, 3])},
    }
    for name, inputs in empty.items():
        outputs = signatures[name](**inputs)
        assert {key: tuple(value.shape) for key, value in outputs.items()} == {
            "classes": (0,),
            "logits": (0, 10),
            "probabilities": (0, 10),
        }
    for value in (np.nan, np.inf):
        images = np.zeros((3, 5, 6, 3), np.float32)
        images[1, 2, 3, 0] = value
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"NaN or infinite values at batch index"):
            signatures["images_float"](images=tf.constant(images))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.optimizer.learning_rat=1"], "learning_rat"),
        (["--config.batch_size=many"], "batch_size"),
        (
            ["--config.model.name=efficientnet_condconv_b0"],
            "unknown network 'efficientnet_condconv_b0'; nearest: efficientnet_condconv_b0_",
        ),
        (["--config.batch_size=33", "--devices=cpu:2"], "config.batch_size=33"),
        (["--config.data.source=idx:/nowhere"], "/nowhere"),
        (["--config.data.source=imagenet"], "imagenet"),
        (["--tpu=local"], "--tpu=local"),
        (["--devices=gpus"], "--devices=gpus"),
        (["--devices=gpu"], "--devices=gpu: TensorFlow"),
        (["--color=red"], "color"),
        (["extra"], "unexpected argument 'extra'"),
        (["--config.data.shuffle_buffer=0"], "config.data.shuffle_buffer=0"),
    ],
)
def test_usage_errors_are_one_line(arguments, message, tmp_path):
    workdir = tmp_path / "run"
    line = usage_error(run("train.py", f"--config={TINY}", f"--workdir={workdir}", *arguments))
    assert line.startswith("train.py: ")
    assert message in line
    assert not workdir.exists()


def test_file_errors(workdir, tmp_path):
    assert "nowhere.py" in usage_error(run("train.py", "--config=nowhere.py", f"--workdir={tmp_path / 'run'}"))
    assert "no variant 'x'" in usage_error(run("train.py", "--config=configs/quickstart.py:x", f"--workdir={tmp_path}"))
    assert "--workdir is missing" in usage_error(run("train.py", f"--config={TINY}"))
    other = usage_error(run("train.py", f"--config={TINY}", f"--workdir={workdir}"))
    assert "data.source is 'digits' in the workdir" in other
    assert "config.json does not exist" in usage_error(run("eval.py", f"--workdir={tmp_path / 'empty'}"))
    missing = usage_error(run("eval.py", f"--workdir={workdir}", "--checkpoint=ckpt-5"))
    assert "'ckpt-5' does not exist" in missing
    assert "validation" in usage_error(run("eval.py", f"--workdir={workdir}", "--split=validation"))


def test_an_export_replaces_nothing_but_an_export(workdir, saved_model):
    assert "contains other files" in usage_error(
        run("scripts/export.py", f"--workdir={workdir}", f"--output={workdir}")
    )
    assert (workdir / "checkpoints").exists()
    assert run("scripts/export.py", f"--workdir={workdir}", "--weights=raw").returncode == 0
    assert not (workdir / "saved_model.old").exists()


@pytest.mark.parametrize(
    ("error", "status"), [("Interrupted(15)", 143), ("Interrupted(2)", 130), ("KeyboardInterrupt", 130)]
)
def test_stopped_program_has_the_status_of_the_signal(tmp_path, error, status):
    program = tmp_path / "ends.py"
    program.write_text(
        "from convzoo.cli import program\nfrom convzoo.training.signals import Interrupted\n"
        f"def main():\n    raise {error}\nprogram.run(main)\n"
    )
    result = run(program)
    assert result.returncode == status
    assert "Traceback" not in result.stderr


_MASKS = """
import keras, tensorflow as tf
from convzoo.training.devices import connect
from convzoo.training.state import decorrelate_replica_seeds
strategy = connect(devices="cpu:2").strategy
with strategy.scope():
    inputs = keras.Input((64,))
    model = keras.Model(inputs, keras.layers.Dropout(0.5, seed=1)(inputs))
def masks():
    run = tf.function(lambda: strategy.run(lambda: model(tf.ones((1, 64)), training=True)))
    return [mask.numpy() for mask in strategy.experimental_local_results(run())]
one, other = masks()
assert (one == other).all()
decorrelate_replica_seeds(model, strategy)
one, other = masks()
assert (one != other).any()
"""


def test_replicas_drop_different_units(tmp_path):
    program = tmp_path / "masks.py"
    program.write_text(_MASKS)
    result = run(program)
    assert result.returncode == 0, result.stderr


def test_the_command_convzoo(tmp_path):
    """A folder of the name of a config does not hide the config."""
    flags = ["--config.epochs=0.1", "--config.schedule.warmup_epochs=0.0", "--config.data.train_split=train[:200]"]
    (tmp_path / "quickstart").mkdir()
    for config in (["--config=quickstart"], ["--config", "quickstart"]):
        result = _convzoo("train", *config, f"--workdir={tmp_path}/run", *flags, "--config.batch_size=16", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    assert "is complete at step" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["list", "mobilenet_v1_x*"], ["mobilenet_v1_x0_25", "mobilenet_v1_x1_0"]),
        (["info", "resnet18"], ["name: resnet18"]),
        (["help"], ["  train", "  info NETWORK    what is known about a network"]),
        (["--version"], [f"convzoo {convzoo.__version__}"]),
        (["eval", "--help"], ["Flags:"]),
        (["train", "--help"], ["  --config.batch_size=None", "  --config.epochs=None"]),
    ],
)
def test_what_the_command_convzoo_prints(arguments, lines):
    result = _convzoo(*arguments)
    assert result.returncode == 0, result.stderr
    assert set(lines) <= set(result.stdout.splitlines())


def test_help_has_the_flags_of_shared_modules():
    result = run("benchmarks/layers.py", "--help")
    assert "  --output: Also writes OUTPUT.md and OUTPUT.json." in result.stdout.splitlines()


def test_verbosity_applies(workdir):
    program = "from absl import flags, logging; from convzoo.cli import program; program.define_devices()\n"
    program += "program.run(lambda: logging.info('a message'))"
    path = workdir.parent / "verbose.py"
    path.write_text(program)
    assert "a message" in run(path, "--verbosity=0").stderr
    assert run(path).stderr == ""


def test_a_cold_start_prints_one_line(tmp_path):
    """In a process of its own with the log level that users have."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, "train.py", f"--config={TINY}", f"--workdir={tmp_path}/run", "--config.batch_size=0"]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert "batch_size=0" in usage_error(result)
    assert len(result.stderr.splitlines()) == 1


def _convzoo(*arguments, cwd=ROOT):
    return run(ROOT / "cli" / "main.py", *arguments, cwd=cwd)
