"""Runs on several replicas and on several workers equal a run on one device. Lost and mismatched workers."""

import json
import signal

import numpy as np
import pytest
import tensorflow as tf
from helpers.programs import TINY, run, run_workers, usage_error

from convzoo.training.checkpoints import newest
from convzoo.training.metrics import read_metrics, without_times
from convzoo.training.workdir import lock_workdir

# 20 steps of 32 examples, without dropout, which draws different numbers on every replica.
FLAGS = (
    "train.py",
    f"--config={TINY}",
    "--config.batch_size=32",
    "--config.epochs=5",
    "--config.eval_every_epochs=5",
    "--config.model.overrides.dropout_rate=0.0",
    "--config.model.overrides.survival_prob=1.0",
    "--config.weight_decay=0.1",
    "--config.clip_norm=0.5",
)
# train.py of a worker that sends itself a signal after a number of steps.
_SIGNALED_TRAIN = """
import os, runpy, sys
from convzoo.training.train_step import MultiStep
at, number = int(sys.argv.pop(1)), int(sys.argv.pop(1))
call = MultiStep.__call__
def call_and_signal(self, iterator, steps, sums):
    result = call(self, iterator, steps, sums)
    if self._iterations.numpy() >= at:
        os.kill(os.getpid(), number)
    return result
MultiStep.__call__ = call_and_signal
sys.argv[0] = "train.py"
runpy.run_path("train.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Workdir of a run on one device."""
    workdir = tmp_path_factory.mktemp("alone")
    result = run(*FLAGS, "--devices=cpu", f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    return workdir


def _check_alike(one, other):
    """Asserts close weights, optimizer states and moving averages, and close metrics except times."""
    readers = [tf.train.load_checkpoint(newest(str(workdir))) for workdir in (one, other)]
    names = [name for name in readers[0].get_variable_to_shape_map() if name.startswith("variables/")]
    assert len(names) > 100
    for name in names:
        if "seed_generator" not in name:
            values = [reader.get_tensor(name) for reader in readers]
            np.testing.assert_allclose(values[1], values[0], rtol=1e-5, atol=1e-5, err_msg=name)
    lines = [[without_times(line) for line in read_metrics(str(workdir))] for workdir in (one, other)]
    assert len(lines[0]) == len(lines[1])
    for first, second in zip(*lines, strict=True):
        assert first == pytest.approx(second, rel=1e-4)


def test_two_replicas_equal_one(alone, tmp_path):
    result = run(*FLAGS, "--devices=cpu:2", f"--workdir={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert "2 x cpu" in result.stdout
    _check_alike(alone, tmp_path)


def test_two_accumulation_steps_equal_one(tmp_path):
    # BatchNorm is frozen, because otherwise each part has its own statistics.
    flags = (*FLAGS, "--devices=cpu", "--config.init.freeze=('*_bn',)")
    for steps in (1, 2):
        result = run(*flags, f"--config.gradient_accumulation_steps={steps}", f"--workdir={tmp_path / str(steps)}")
        assert result.returncode == 0, result.stderr
    _check_alike(tmp_path / "1", tmp_path / "2")


def test_two_workers_equal_one(alone, tmp_path):
    results = run_workers(*[(*FLAGS, "--devices=cpu", f"--workdir={tmp_path}")] * 2)
    for result in results:
        assert result.returncode == 0, result.stderr
    assert "2 x cpu (worker 0 of 2" in results[0].stdout
    assert "step 20/20" in results[0].stdout
    assert "step 20/20" not in results[1].stdout
    _check_alike(alone, tmp_path)


def test_lost_worker_ends_the_others_and_all_resume(alone, tmp_path):
    program = tmp_path / "hit.py"
    program.write_text(_SIGNALED_TRAIN)
    flags = (*FLAGS[1:], "--devices=cpu", f"--workdir={tmp_path / 'run'}", "--config.checkpoint_every_epochs=1")
    lost, killed = run_workers(("train.py", *flags), (program, "12", str(int(signal.SIGKILL)), *flags))
    assert killed.returncode == -signal.SIGKILL
    assert lost.returncode == 1
    assert "lost another worker" in lost.stderr
    assert "Traceback" not in lost.stderr
    # A signal to one worker stops all of them after a checkpoint.
    for result in run_workers(("train.py", *flags), (program, "14", str(int(signal.SIGTERM)), *flags)):
        assert result.returncode == 128 + signal.SIGTERM, result.stderr
        assert "step 15" in result.stdout
    for result in run_workers(*[("train.py", *flags)] * 2):
        assert result.returncode == 0, result.stderr
        assert "resuming from" in result.stdout
    _check_alike(alone, tmp_path / "run")


def test_different_workdirs_are_refused(alone, tmp_path):
    results = run_workers(*[(*FLAGS, "--devices=cpu", f"--workdir={workdir}") for workdir in (alone, tmp_path)])
    for result in results:
        assert "--workdir" in usage_error(result)
    assert list(tmp_path.iterdir()) == []


def test_different_configs_are_refused(tmp_path):
    flags = (*FLAGS, "--devices=cpu", f"--workdir={tmp_path}")
    for result in run_workers(flags, (*flags, "--config.steps_per_loop=7")):
        assert "configs" in usage_error(result)
    assert list(tmp_path.iterdir()) == []


def test_error_of_one_worker_ends_the_others(alone):
    flags = (*FLAGS, "--devices=cpu", f"--workdir={alone}")
    with lock_workdir(str(alone)):
        chief, other = run_workers(flags, flags)
    assert str(alone) in usage_error(chief)
    assert other.returncode == 1
    assert "lost another worker" in other.stderr
    assert "Traceback" not in other.stderr


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        ("{", (), "TF_CONFIG"),
        (json.dumps({"cluster": {"worker": ["a:1", "b:1"]}}), (), "TF_CONFIG"),
        (
            json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}),
            (),
            "TF_CONFIG",
        ),
        (
            json.dumps({"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}}),
            (),
            "'ps'",
        ),
        (
            json.dumps({"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}),
            ("--devices=cpu:2",),
            "--devices=cpu:2",
        ),
    ],
)
def test_invalid_tf_config(text, flags, message):
    assert message in usage_error(run(*FLAGS, "--workdir=x", *flags, environment={"TF_CONFIG": text}))
