"""Segmentation as a user runs it: evaluation, drawing, export, and errors of the classification programs."""

import pytest
import tensorflow as tf
from helpers import tiny
from helpers.programs import TINY, run, usage_error

from convzoo.training.devices import connect
from convzoo.training.loop import train


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    workdir = str(tmp_path_factory.mktemp("run"))
    config = tiny.get_config("segmentation")
    config.epochs = 1.0
    train(config, workdir, connect(devices="cpu"))
    return workdir


def test_evaluated_drawn_and_exported(workdir, tmp_path):
    result = run("eval.py", f"--workdir={workdir}", "--checkpoint=best", "--split=test")
    assert result.returncode == 0, result.stderr
    assert "mean IoU %" in result.stdout
    assert "pixel accuracy %" in result.stdout
    output = tmp_path / "new" / "drawing.png"
    command = ("scripts/draw_segmentation.py", f"--workdir={workdir}", "--split=test", f"--output={output}")
    result = run(*command, "--count=2")
    assert result.returncode == 0, result.stderr
    assert "2 images of test" in result.stdout
    two = tf.io.decode_png(tf.io.read_file(str(output))).shape
    assert run(*command).returncode == 0
    assert tf.io.decode_png(tf.io.read_file(str(output))).shape[0] > two[0]
    result = run("scripts/export.py", f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    # The network's answer to whole images is another program's.
    line = usage_error(run("scripts/classify.py", f"--model={workdir}/saved_model", output))
    assert "classifies pixels, not images" in line


def test_program_usage_errors(workdir, tmp_path):
    plain = tmp_path / "plain"
    config = tiny.get_config()
    config.epochs = 0.5
    train(config, str(plain), connect(devices="cpu"))
    assert "config.task='classification'" in usage_error(run("scripts/draw_segmentation.py", f"--workdir={plain}"))
    rows = (f"--config={TINY}:segmentation", f"--config={TINY}")
    line = usage_error(run("scripts/study.py", *rows, f"--workdir={tmp_path / 'study'}"))
    assert "different metrics (mean IoU, top-1)" in line
