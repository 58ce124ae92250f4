"""Checkpoints that are written while training goes on."""

import pathlib
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from convzoo.errors import ConfigError, WriteError
from convzoo.training import checkpoints
from convzoo.training.checkpoint_manager import CheckpointManager
from convzoo.training.checkpoints import best, list_checkpoints, model_variables, newest, prefixed, restore


@pytest.fixture
def state():
    return {"model/a/kernel": tf.Variable([1.0, 2.0]), "optimizer/iteration": tf.Variable(1, dtype=tf.int64)}


def _set(state, step):
    state["model/a/kernel"].assign([step, step])
    state["optimizer/iteration"].assign(step)


def _read(path, state):
    there = {name: tf.Variable(tf.zeros_like(variable)) for name, variable in state.items()}
    restore(path, there)
    return {name: variable.numpy().tolist() for name, variable in there.items()}


@pytest.fixture
def gate(monkeypatch):
    """Nothing is written before it is set."""
    gate, save = threading.Event(), tf.train.CheckpointManager.save

    def wait_and_save(*arguments, **settings):
        assert gate.wait(60)
        return save(*arguments, **settings)

    monkeypatch.setattr(tf.train.CheckpointManager, "save", wait_and_save)
    return gate


def test_training_continues_during_a_write(tmp_path, state, gate):
    writer = CheckpointManager(str(tmp_path), state, keep=2)
    _set(state, 5)
    assert writer.save_if_best(5, "eval/top1", 0.5)
    writer.save(5)
    _set(state, 6)
    assert newest(str(tmp_path)) is None
    assert writer.saved_step is None
    gate.set()
    writer.save(6)  # waits for those of step 5
    writer.wait()
    assert writer.saved_step == 6
    for name, step in (("checkpoints/ckpt-5", 5), ("best/ckpt-5", 5), ("checkpoints/ckpt-6", 6)):
        assert _read(f"{tmp_path}/{name}", state) == {"model/a/kernel": [step, step], "optimizer/iteration": step}
    assert not writer.save_if_best(6, "eval/top1", 0.4)


def test_the_newest_are_kept_over_a_restart(tmp_path, state):
    for step in (1, 2, 3, 4):
        writer = CheckpointManager(str(tmp_path), state, keep=2)
        writer.restore_newest()
        _set(state, step)
        writer.save(step)
        writer.close()
    assert sorted(path.stem for path in (tmp_path / "checkpoints").glob("*.index")) == ["ckpt-3", "ckpt-4"]


def test_failed_write_is_reported_and_keeps_the_previous_file(tmp_path, state, monkeypatch):
    writer = CheckpointManager(str(tmp_path), state, keep=2)
    writer.save(1)
    writer.wait()

    def full(checkpoint, path):
        pathlib.Path(f"{path}_temp").mkdir()
        raise tf.errors.ResourceExhaustedError(None, None, "No space left")

    monkeypatch.setattr(tf.train.Checkpoint, "write", full)
    writer.save(2)
    with pytest.raises(WriteError, match="No space left") as caught:
        writer.wait()
    assert caught.value.what == "checkpoint of step 2"
    writer.poll()  # raises only once
    writer.save(3)
    writer.close()
    with pytest.raises(WriteError):
        writer.poll()
    assert writer.saved_step == 1
    assert newest(str(tmp_path)) == f"{tmp_path}/checkpoints/ckpt-1"
    assert not list((tmp_path / "checkpoints").glob("*_temp"))


def test_a_worker_that_does_not_write(tmp_path, state):
    reader = CheckpointManager(str(tmp_path), state, keep=2, writes=False)
    reader.save(1)
    assert not reader.save_if_best(1, "eval/top1", 0.5)
    reader.wait()
    assert list(tmp_path.iterdir()) == []
    writer = CheckpointManager(str(tmp_path), state, keep=2)
    _set(state, 7)
    writer.save(7)
    writer.close()
    _set(state, 8)
    assert reader.restore_newest() == (f"{tmp_path}/checkpoints/ckpt-7", [])
    assert reader.saved_step == 7
    np.testing.assert_array_equal(state["model/a/kernel"], [7, 7])


@pytest.mark.parametrize("text", [None, "", "model_checkpoint_path: 3", 'model_checkpoint_path: "ckpt-1"\n', "\udcff"])
def test_checkpoints_are_found_without_tensorflows_list_of_them(text, tmp_path, state):
    writer = CheckpointManager(str(tmp_path), state, keep=2)
    for step in (1, 2, 10):
        _set(state, step)
        writer.save(step)
        assert writer.save_if_best(step, "eval/top1", step)
        writer.wait()
    writer.close()
    for folder in ("checkpoints", "best"):
        path = tmp_path / folder / "checkpoint"
        path.unlink() if text is None else path.write_text(text, errors="surrogateescape")
    assert list_checkpoints(str(tmp_path)) == [f"{tmp_path}/checkpoints/ckpt-{step}" for step in (2, 10)]
    assert (newest(str(tmp_path)), best(str(tmp_path))) == (
        f"{tmp_path}/checkpoints/ckpt-10",
        f"{tmp_path}/best/ckpt-10",
    )
    reader = CheckpointManager(str(tmp_path), state, keep=2)
    assert reader.restore_newest() == (f"{tmp_path}/checkpoints/ckpt-10", [])


def test_a_corrupt_later_checkpoint_does_not_push_out_whole_ones(tmp_path, state):
    writer = CheckpointManager(str(tmp_path), state, keep=1)
    writer.save(1)
    writer.close()
    (tmp_path / "checkpoints" / "ckpt-9.index").write_text("corrupt")
    writer = CheckpointManager(str(tmp_path), state, keep=1)
    assert writer.restore_newest()[0] == f"{tmp_path}/checkpoints/ckpt-1"
    writer.save(4)
    writer.close()
    assert _read(f"{tmp_path}/checkpoints/ckpt-4", state)
    assert not (tmp_path / "checkpoints" / "ckpt-1.index").exists()


def test_a_best_checkpoint_that_training_replaces_is_read_again(tmp_path, monkeypatch):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    state = prefixed("model", model_variables(model)) | {"optimizer/iteration": tf.Variable(1, dtype=tf.int64)}
    writer = CheckpointManager(str(tmp_path), state, keep=1)
    for step in (1, 2):
        writer.save_if_best(step, "eval/top1", step)
        writer.wait()
    writer.close()
    gone, there = f"{tmp_path}/best/ckpt-1", f"{tmp_path}/best/ckpt-2"
    found = iter([gone, there, there])
    monkeypatch.setattr(checkpoints, "best", lambda workdir: next(found))
    assert checkpoints.load(str(tmp_path), "best", model)[:2] == (there, "raw")
    monkeypatch.setattr(checkpoints, "best", lambda workdir: gone)
    with pytest.raises(ConfigError, match="ckpt-1"):
        checkpoints.load(str(tmp_path), "best", model)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"step": 1}', '{"step": "x", "metric": "top1", "value": 1}', "\udcff"]
)
def test_damaged_information_about_the_best_checkpoint(text, tmp_path, state):
    writer = CheckpointManager(str(tmp_path), state, keep=1)
    writer.save_if_best(1, "eval/top1", 0.5)
    writer.wait()
    (tmp_path / "best" / "info.json").write_text(text, errors="surrogateescape")
    assert best(str(tmp_path)) == f"{tmp_path}/best/ckpt-1"
    with pytest.raises(ConfigError, match=r"info\.json is damaged"):
        writer.save_if_best(2, "eval/top1", 0.1)
    writer.close()
    assert (tmp_path / "best" / "ckpt-1.index").exists()
