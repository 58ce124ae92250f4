"""Detection as a user runs it: evaluation, drawings, export, and errors of the classification programs."""

import json

import pytest
import tensorflow as tf
from helpers import tiny
from helpers.programs import TINY, run, usage_error

from convzoo.training.devices import connect
from convzoo.training.loop import train


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    workdir = str(tmp_path_factory.mktemp("run"))
    config = tiny.get_config("detection")
    config.epochs = 1.0
    train(config, workdir, connect(devices="cpu"))
    return workdir


def _size(path):
    return tf.io.decode_png(tf.io.read_file(str(path))).shape


def test_evaluated_drawn_and_exported(workdir, tmp_path):
    output = tmp_path / "result.json"
    result = run("eval.py", f"--workdir={workdir}", "--checkpoint=best", "--split=test", f"--output={output}")
    assert result.returncode == 0, result.stderr
    for title in ("mAP %", "mAP@0.5 %", "class ", "triangle"):
        assert title in result.stdout
    assert set(json.loads(output.read_text())["class_map"]) == {"disc", "square", "triangle"}
    drawing = tmp_path / "new" / "drawing.png"
    command = ("scripts/draw_detections.py", f"--workdir={workdir}", "--split=test", f"--output={drawing}")
    result = run(*command, "--count=2", "--min_score=0")
    assert result.returncode == 0, result.stderr
    assert "2 images of test" in result.stdout
    assert _size(drawing)[0] > 100
    override = "--override=config.detection.max_detections=7"
    result = run("scripts/export.py", f"--workdir={workdir}", override)
    served = tf.saved_model.load(f"{workdir}/saved_model").signatures["images"]
    assert served(images=tf.zeros([1, 40, 60, 3], tf.uint8))["scores"].shape == (1, 7)
    line = usage_error(run("eval.py", f"--workdir={workdir}", "--override=config.detection.focal_alpha=0.5"))
    assert "would change the training" in line
    assert result.returncode == 0, result.stderr
    line = usage_error(run("scripts/classify.py", f"--model={workdir}/saved_model", drawing))
    assert "detects objects" in line


def test_training_images(tmp_path):
    result = run("scripts/show_batch.py", f"--config={TINY}:detection", f"--output={tmp_path / 'batch.png'}")
    assert result.returncode == 0, result.stderr
    assert "16 images of epoch 0" in result.stdout
    assert _size(tmp_path / "batch.png")[0] > 100


def test_program_usage_errors(tmp_path):
    plain = tmp_path / "plain"
    config = tiny.get_config()
    config.epochs = 0.5
    train(config, str(plain), connect(devices="cpu"))
    assert "config.task='classification'" in usage_error(run("scripts/draw_detections.py", f"--workdir={plain}"))
    workdir = tmp_path / "new"
    command = ("train.py", f"--config={TINY}:detection", f"--workdir={workdir}")
    for flag, message in (
        ("--config.data.source=digits", "one label per image, not boxes"),
        ("--config.data.source=coco:/no/folder", "does not exist"),
        ("--config.label_smoothing=0.1", "label_smoothing=0.1"),
        ("--config.data.mixup=0.2", "mixup=0.2 needs one label per image"),
        ("--config.data.crop_fraction=0.5", "crop_fraction=0.5"),
        ("--config.model.name=ssd300_mobilenet_v1_x0_5", "is a detector; use create_detector"),
        ("--config.detector.extra_filters=(1000000,)", "integers from 1 to 65536"),
        ("--config.detector.head_convs=2", "head_convs=2 has no effect with neck='ssd'"),
        ("--config.detector.extra_filters=(32,32,32)", "input_shape=(64, 64, 3) leaves no pixel"),
    ):
        assert message in usage_error(run(*command, flag)), flag
        assert not workdir.exists()
