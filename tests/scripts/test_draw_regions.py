"""scripts/draw_regions.py as a user runs it."""

import numpy as np
import pytest
import tensorflow as tf
from helpers import tiny
from helpers.programs import run, usage_error

from convzoo.training.devices import connect
from convzoo.training.loop import train

SCRIPT = "scripts/draw_regions.py"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    workdir = str(tmp_path_factory.mktemp("run"))
    config = tiny.get_config("regions")
    config.epochs = 1.0
    train(config, workdir, connect(devices="cpu"))
    return workdir


def test_the_script(workdir, tmp_path):
    image = tmp_path / "image.png"
    tf.io.write_file(
        str(image), tf.io.encode_png(np.random.default_rng(0).integers(255, size=(20, 30, 3)).astype("uint8"))
    )
    output = tmp_path / "new" / "regions.png"
    result = run(SCRIPT, f"--workdir={workdir}", "--checkpoint=best", "--count=2", f"--output={output}")
    assert result.returncode == 0, result.stderr
    assert "block0" in result.stdout
    assert "block1" in result.stdout
    two = tf.io.decode_png(tf.io.read_file(str(output))).shape
    arguments = (f"--workdir={workdir}", f"--output={output}", f"--image={image}", "--blocks=*1")
    result = run(SCRIPT, *arguments)
    assert result.returncode == 0, result.stderr
    assert "block0" not in result.stdout
    one = tf.io.decode_png(tf.io.read_file(str(output))).shape
    assert one[0] < two[0]
    assert one[1] < two[1]


def test_script_usage_errors(workdir, tmp_path):
    assert "--blocks=stage* matches none of block0, block1" in usage_error(
        run(SCRIPT, f"--workdir={workdir}", "--blocks=stage*")
    )
    missing = usage_error(run(SCRIPT, f"--workdir={workdir}", f"--image={tmp_path}/none.png"))
    assert "none.png" in missing
    plain = tmp_path / "plain"
    config = tiny.get_config()
    config.epochs = 1.0
    train(config, str(plain), connect(devices="cpu"))
    assert "has no region maps" in usage_error(run(SCRIPT, f"--workdir={plain}"))
    both = usage_error(run(SCRIPT, f"--workdir={workdir}", f"--image={tmp_path}/none.png", "--count=3"))
    assert "leave out --split and --count" in both
