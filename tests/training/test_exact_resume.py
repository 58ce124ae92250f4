"""Runs that were killed end with the bits of one that was left alone."""

import numpy as np
import pytest
import tensorflow as tf
from helpers.programs import TINY, complaint, run

from convzoo.training.checkpoints import newest
from convzoo.training.records import read_metrics

FLAGS = (f"--config={TINY}", "--devices=cpu", "--config.deterministic=True")
# train.py that SIGKILL hits when it writes the metrics of a step.
_KILLED = """
import os, runpy, signal, sys
from convzoo.training import records
write = records.MetricsWriter.write
def write_or_die(writer, step, scalars):
    write(writer, step, scalars)
    if step == int(os.environ["DIES_AT"]):
        os.kill(os.getpid(), signal.SIGKILL)
records.MetricsWriter.write = write_or_die
sys.argv[0] = "train.py"
runpy.run_path("train.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The workdir of a run of 24 steps that nothing happened to; it saves at 9, 18 and 24."""
    workdir = tmp_path_factory.mktemp("straight")
    result = run("train.py", *FLAGS, f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    return str(workdir)


def test_a_run_that_was_killed_twice(straight, tmp_path, monkeypatch):
    program, workdir = tmp_path / "killed.py", tmp_path / "killed"
    program.write_text(_KILLED)
    for step in (6, 15):  # before the first checkpoint, and between two
        monkeypatch.setenv("DIES_AT", str(step))
        assert run(program, *FLAGS, f"--workdir={workdir}").returncode == -9
    result = run("train.py", *FLAGS, f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    assert "going on from" in result.stdout
    one, other = (tf.train.load_checkpoint(newest(str(folder))) for folder in (straight, workdir))
    names = [name for name in one.get_variable_to_shape_map() if name.startswith("variables/")]
    assert len(names) > 100
    for name in names:
        np.testing.assert_array_equal(one.get_tensor(name), other.get_tensor(name), err_msg=name)
    assert _metrics(straight) == _metrics(str(workdir))


def _metrics(workdir):
    lines = read_metrics(workdir)
    for line in lines:
        line.pop("train/images_per_second", None)
    assert sum("eval/top1" in line for line in lines) == 3
    return lines


def test_several_replicas_are_refused():
    line = complaint(
        run("train.py", f"--config={TINY}", "--config.deterministic=True", "--devices=cpu:2", "--workdir=x")
    )
    assert "config.deterministic holds on one device and here are 2 replicas" in line
