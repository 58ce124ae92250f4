"""Runs that something happened to: killed, on a full disk, twice at once."""

import numpy as np
import pytest
import tensorflow as tf
from helpers.programs import TINY, complaint, run

from convzoo.training import lock
from convzoo.training.checkpoints import newest
from convzoo.training.records import read_metrics, without_times

FLAGS = (f"--config={TINY}", "--devices=cpu", "--config.deterministic=True")
# train.py that something happens to when it writes the metrics of a step: SIGKILL, or a disk with no room for more.
_HIT = """
import os, resource, runpy, signal, sys, time
from convzoo.training import records
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
write = records.MetricsWriter.write
def write_and_be_hit(writer, step, scalars):
    write(writer, step, scalars)
    if step > 9:  # whose checkpoint is written meanwhile
        end = time.monotonic() + 60
        while not os.path.exists(os.path.join(os.path.dirname(writer._path), "checkpoints", "checkpoint")):
            assert time.monotonic() < end
            time.sleep(0.01)
    if step == int(os.environ["AT"]) and os.environ["BY"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif step == int(os.environ["AT"]):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["BY"]), resource.RLIM_INFINITY))
records.MetricsWriter.write = write_and_be_hit
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
    program.write_text(_HIT)
    monkeypatch.setenv("BY", "kill")
    for step in (6, 15):  # before the first checkpoint, and between two
        monkeypatch.setenv("AT", str(step))
        assert run(program, *FLAGS, f"--workdir={workdir}").returncode == -9
    result = run("train.py", *FLAGS, f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    assert "going on from" in result.stdout
    _check_alike(straight, workdir)


@pytest.mark.parametrize(("largest", "what"), [("10000", "checkpoint of step 18"), ("2500", "metrics")])
def test_a_full_disk_ends_the_run_and_loses_no_checkpoint(straight, tmp_path, monkeypatch, largest, what):
    program, workdir = tmp_path / "full.py", tmp_path / "full"
    program.write_text(_HIT)
    monkeypatch.setenv("BY", largest)  # bytes of a file
    monkeypatch.setenv("AT", "15")
    result = run(program, *FLAGS, f"--workdir={workdir}")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert f"the {what} cannot be written" in result.stderr
    assert "goes on from step 9" in result.stderr
    files = {path.name for path in (workdir / "checkpoints").iterdir()}
    assert files == {"checkpoint", "ckpt-9.index", "ckpt-9.data-00000-of-00001"}
    assert run("train.py", *FLAGS, f"--workdir={workdir}").returncode == 0
    _check_alike(straight, workdir)


def _check_alike(straight, workdir):
    """Weights, optimiser, average and random states to the bit, and all metrics but those of time."""
    one, other = (tf.train.load_checkpoint(newest(str(folder))) for folder in (straight, workdir))
    names = [name for name in one.get_variable_to_shape_map() if name.startswith("variables/")]
    assert len(names) > 100
    for name in names:
        np.testing.assert_array_equal(one.get_tensor(name), other.get_tensor(name), err_msg=name)
    assert _metrics(straight) == _metrics(str(workdir))


def _metrics(workdir):
    lines = [without_times(line) for line in read_metrics(workdir)]
    assert sum("eval/top1" in line for line in lines) == 3
    return lines


def test_several_replicas_are_refused():
    line = complaint(run("train.py", *FLAGS, "--devices=cpu:2", "--workdir=x"))
    assert "config.deterministic is for one device and here are 2 replicas" in line


def test_a_second_training_in_a_workdir_is_refused(straight):
    with lock.held(straight):
        line = complaint(run("train.py", *FLAGS, f"--workdir={straight}"))
    assert f"another training runs in --workdir={straight}" in line
