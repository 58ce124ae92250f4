"""One replica or many, on one machine or on several: the same training. And workers that are lost."""

import json
import signal

import numpy as np
import pytest
import tensorflow as tf
from helpers.programs import TINY, complaint, run, run_workers

from convzoo.training import lock
from convzoo.training.checkpoints import newest
from convzoo.training.records import read_metrics, without_times

# 20 steps of 32 examples. Replicas drop other units and branches than one does.
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
# train.py of one worker, to which a signal is sent when it has made a number of steps.
_HIT = """
import os, runpy, sys
from convzoo.training.steps import Steps
at, number = int(sys.argv.pop(1)), int(sys.argv.pop(1))
call = Steps.__call__
def call_and_be_hit(self, iterator, steps, sums):
    result = call(self, iterator, steps, sums)
    if self._iterations.numpy() >= at:
        os.kill(os.getpid(), number)
    return result
Steps.__call__ = call_and_be_hit
sys.argv[0] = "train.py"
runpy.run_path("train.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The workdir of a run on one device."""
    workdir = tmp_path_factory.mktemp("alone")
    result = run(*FLAGS, "--devices=cpu", f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    return workdir


def _check_alike(one, other):
    """The weights, the optimiser's state and the moving average, and all metrics but those of time."""
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


def test_two_replicas_train_what_one_does(alone, tmp_path):
    result = run(*FLAGS, "--devices=cpu:2", f"--workdir={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert "2 x cpu" in result.stdout
    assert "16 examples on each" in result.stdout
    _check_alike(alone, tmp_path)


def test_two_parts_train_what_one_does(tmp_path):
    # Frozen: each part would be normalised by itself.
    flags = (*FLAGS, "--devices=cpu", "--config.init.freeze=('*_bn',)")
    for parts in (1, 2):
        result = run(*flags, f"--config.gradient_accumulation={parts}", f"--workdir={tmp_path / str(parts)}")
        assert result.returncode == 0, result.stderr
    _check_alike(tmp_path / "1", tmp_path / "2")


def test_two_workers_train_what_one_does(alone, tmp_path):
    results = run_workers(*[(*FLAGS, "--devices=cpu", f"--workdir={tmp_path}")] * 2)
    for result in results:
        assert result.returncode == 0, result.stderr
    assert "2 x cpu (worker 0 of 2 in TF_CONFIG), 16 examples on each" in results[0].stdout
    assert "step 20/20" in results[0].stdout
    assert "step 20/20" not in results[1].stdout
    _check_alike(alone, tmp_path)


def test_a_lost_worker_ends_the_others_and_all_go_on(alone, tmp_path):
    program = tmp_path / "hit.py"
    program.write_text(_HIT)
    flags = (*FLAGS[1:], "--devices=cpu", f"--workdir={tmp_path / 'run'}", "--config.checkpoint_every_epochs=1")
    lost, killed = run_workers(("train.py", *flags), (program, "12", str(int(signal.SIGKILL)), *flags))
    assert killed.returncode == -signal.SIGKILL
    assert lost.returncode == 1
    assert "another worker is gone" in lost.stderr
    assert "Traceback" not in lost.stderr
    assert "the training goes on from" in lost.stderr
    # A worker that is asked to stop stops all of them, with all that they have made.
    for result in run_workers(("train.py", *flags), (program, "14", str(int(signal.SIGTERM)), *flags)):
        assert result.returncode == 128 + signal.SIGTERM, result.stderr
        assert "the same command goes on from step 15" in result.stdout
    for result in run_workers(*[("train.py", *flags)] * 2):
        assert result.returncode == 0, result.stderr
        assert "going on from" in result.stdout
    _check_alike(alone, tmp_path / "run")


def test_a_folder_of_its_own_is_refused(alone, tmp_path):
    results = run_workers(*[(*FLAGS, "--devices=cpu", f"--workdir={workdir}") for workdir in (alone, tmp_path)])
    for result in results:
        assert "has to be one folder that all workers see" in complaint(result)
    assert list(tmp_path.iterdir()) == []


def test_workers_that_were_started_differently_are_refused(tmp_path):
    flags = (*FLAGS, "--devices=cpu", f"--workdir={tmp_path}")
    for result in run_workers(flags, (*flags, "--config.steps_per_loop=7")):
        assert "started with different configs" in complaint(result)
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_of_one_worker_ends_the_others(alone):
    flags = (*FLAGS, "--devices=cpu", f"--workdir={alone}")
    with lock.held(str(alone)):
        chief, other = run_workers(flags, flags)
    assert "another training runs in" in complaint(chief)
    assert other.returncode == 1
    assert "another worker is gone" in other.stderr
    assert "Traceback" not in other.stderr


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        ("{", (), "TF_CONFIG cannot be read"),
        (json.dumps({"cluster": {"worker": ["a:1", "b:1"]}}), (), "TF_CONFIG cannot be read"),
        (
            json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}),
            (),
            "TF_CONFIG cannot be read",
        ),
        (
            json.dumps({"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}}),
            (),
            "has a job 'ps'",
        ),
        (
            json.dumps({"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}),
            ("--devices=cpu:2",),
            "--devices=cpu:2 and TF_CONFIG exclude each other",
        ),
    ],
)
def test_refused(text, flags, message):
    assert message in complaint(run(*FLAGS, "--workdir=x", *flags, environment={"TF_CONFIG": text}))
