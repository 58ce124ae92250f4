"""scripts/draw_experts.py as a user runs it."""

import pytest
import tensorflow as tf
from helpers import tiny
from helpers.programs import run, usage_error

from convzoo.training.devices import connect
from convzoo.training.loop import train

SCRIPT = "scripts/draw_experts.py"


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory):
    """Workdirs of runs with CondConv ("") and with DRConv ("regions")."""
    folder = tmp_path_factory.mktemp("runs")
    for variant in ("", "regions"):
        config = tiny.get_config(variant)
        config.epochs = 1.0
        train(config, str(folder / f"run_{variant}"), connect(devices="cpu"))
    return {variant: folder / f"run_{variant}" for variant in ("", "regions")}


def test_experts(workdirs, tmp_path):
    output = tmp_path / "new" / "experts.png"
    result = run(SCRIPT, f"--workdir={workdirs['']}", "--count=40", f"--output={output}")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert any(line.startswith("block2 ") for line in lines)
    assert any(line.startswith("block3_expand_conv ") and "0 and 1: " in line for line in lines)
    shapes = [tf.io.decode_png(tf.io.read_file(str(path))).shape for path in sorted(output.parent.iterdir())]
    assert len(shapes) == 2
    assert lines[-2:] == [f"written to {output}", f"written to {tmp_path}/new/experts_similarity.png"]


def test_regions(workdirs, tmp_path):
    output = tmp_path / "regions.png"
    result = run(SCRIPT, f"--workdir={workdirs['regions']}", "--checkpoint=best", f"--output={output}", "--blocks=*1")
    assert result.returncode == 0, result.stderr
    assert "block1" in result.stdout
    assert "block0" not in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["regions.png"]


def test_usage_errors(workdirs, tmp_path):
    message = usage_error(run(SCRIPT, f"--workdir={workdirs['']}", "--blocks=stage*"))
    assert "--blocks=stage* matches none of block2" in message
    plain = tmp_path / "plain"
    config = tiny.get_config("segmentation")
    config.epochs = 1.0
    train(config, str(plain), connect(devices="cpu"))
    assert "has neither experts nor regions" in usage_error(run(SCRIPT, f"--workdir={plain}"))
