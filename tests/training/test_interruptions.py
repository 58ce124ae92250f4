"""Interrupted runs: killed, on a full disk, and two runs in one workdir."""

import itertools
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from helpers.programs import ROOT, TINY, run, usage_error

from convzoo.training.checkpoints import newest
from convzoo.training.metrics import read_metrics, without_times
from convzoo.training.workdir import lock_workdir

FLAGS = (f"--config={TINY}", "--devices=cpu", "--config.deterministic=True")
# train.py that, when it writes the metrics of step AT, is killed or finds the disk full.
_INTERRUPTED_TRAIN = """
import os, resource, runpy, signal, sys, time
from convzoo.training import metrics
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
write = metrics.MetricsWriter.write
def write_and_interrupt(writer, step, scalars):
    write(writer, step, scalars)
    if step > 9:  # wait for the checkpoint of step 9
        end = time.monotonic() + 60
        while not os.path.exists(os.path.join(os.path.dirname(writer._path), "checkpoints", "checkpoint")):
            assert time.monotonic() < end
            time.sleep(0.01)
    if step == int(os.environ["AT"]) and os.environ["BY"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif step == int(os.environ["AT"]):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["BY"]), resource.RLIM_INFINITY))
metrics.MetricsWriter.write = write_and_interrupt
sys.argv[0] = "train.py"
runpy.run_path("train.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Workdir of an uninterrupted run of 24 steps with checkpoints at 9, 18 and 24."""
    workdir = tmp_path_factory.mktemp("uninterrupted")
    result = run("train.py", *FLAGS, f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    return str(workdir)


def test_run_killed_twice_equals_uninterrupted_run(uninterrupted, tmp_path, monkeypatch):
    program, workdir = tmp_path / "killed.py", tmp_path / "killed"
    program.write_text(_INTERRUPTED_TRAIN)
    monkeypatch.setenv("BY", "kill")
    for step in (6, 15):  # before the first checkpoint, and between two
        monkeypatch.setenv("AT", str(step))
        assert run(program, *FLAGS, f"--workdir={workdir}").returncode == -9
    result = run("train.py", *FLAGS, f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    assert "resuming from" in result.stdout
    _check_alike(uninterrupted, workdir)


@pytest.mark.parametrize(("largest", "what"), [("100000", "checkpoint of step 18"), ("2500", "metrics")])
def test_full_disk_ends_the_run_and_keeps_checkpoints(uninterrupted, tmp_path, monkeypatch, largest, what):
    program, workdir = tmp_path / "full.py", tmp_path / "full"
    program.write_text(_INTERRUPTED_TRAIN)
    monkeypatch.setenv("BY", largest)  # bytes of a file
    monkeypatch.setenv("AT", "15")
    result = run(program, *FLAGS, f"--workdir={workdir}")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert what in result.stderr
    assert "step 9" in result.stderr
    files = {path.name for path in (workdir / "checkpoints").iterdir()}
    assert files == {"checkpoint", "ckpt-9.index", "ckpt-9.data-00000-of-00001"}
    assert run("train.py", *FLAGS, f"--workdir={workdir}").returncode == 0
    _check_alike(uninterrupted, workdir)


def _check_alike(uninterrupted, workdir):
    """Asserts equal bits in all variables of the newest checkpoint, and equal metrics except times."""
    one, other = (tf.train.load_checkpoint(newest(str(folder))) for folder in (uninterrupted, workdir))
    names = [name for name in one.get_variable_to_shape_map() if name.startswith("variables/")]
    assert len(names) > 100
    for name in names:
        np.testing.assert_array_equal(one.get_tensor(name), other.get_tensor(name), err_msg=name)
    assert _metrics(uninterrupted) == _metrics(str(workdir))


def _metrics(workdir):
    lines = [without_times(line) for line in read_metrics(workdir)]
    assert sum("eval/top1" in line for line in lines) == 3
    return lines


def test_deterministic_run_has_one_replica():
    line = usage_error(run("train.py", *FLAGS, "--devices=cpu:2", "--workdir=x"))
    assert "config.deterministic" in line


def test_second_run_in_a_workdir_is_refused(uninterrupted):
    with lock_workdir(uninterrupted):
        line = usage_error(run("train.py", *FLAGS, f"--workdir={uninterrupted}"))
    assert f"--workdir={uninterrupted}" in line


def test_a_run_that_too_many_corrupt_images_end_does_not_hang(tmp_path):
    """The traceback holds an iterator whose thread counts corrupt images in Python; see `cli.program._exit`."""
    rng = np.random.default_rng(0)
    for split, name, number in itertools.product(("train", "test"), "ab", range(16)):
        path = tmp_path / "images" / split / name / f"{number:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_jpeg(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).numpy())
    (tmp_path / "images" / "train" / "a" / "003.jpg").write_bytes(b"")
    fields = {"data.source": f"folder:{tmp_path}/images", "data.train_split": "train", "data.eval_split": "test"}
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    for attempt in range(3):  # it hung or aborted in three of four runs
        line = usage_error(run("train.py", f"--config={TINY}:regions", *flags, f"--workdir={tmp_path}/{attempt}"))
        assert "003.jpg" in line


def test_a_home_folder_and_paths_that_tensorflow_takes_for_patterns(tmp_path):
    line = usage_error(run("train.py", *FLAGS, f"--workdir={tmp_path}/lr=[0.1]"))
    assert "lr=[0.1]' contains '['" in line
    home = {"HOME": str(tmp_path)}
    line = usage_error(run("eval.py", "--workdir=~/none", environment=home))
    assert f"{tmp_path}/none/config.json does not exist" in line
    assert not os.listdir(tmp_path)


def test_a_run_resumes_from_its_best_checkpoint_if_there_is_no_other(tmp_path):
    flags = [f"--config={TINY}:regions", f"--workdir={tmp_path}/run", "--config.epochs=2.0"]
    result = run("train.py", *flags)
    assert result.returncode == 0, result.stderr
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    best = next((tmp_path / "run" / "best").glob("ckpt-*.index"))
    result = run("train.py", *flags)
    assert result.returncode == 0, result.stderr
    assert f"resuming from {best.with_suffix('')}, step" in result.stdout or "is complete" in result.stdout
    assert "starting at step 0" not in result.stdout


def test_a_closed_or_full_standard_output(tmp_path):
    """The reader of a pipe may stop reading; a full disk is one line."""
    command = [sys.executable, str(ROOT / "cli" / "main.py"), "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 128 + signal.SIGPIPE
