"""Fine-tuning as a user does it: programs in processes of their own, one replica and two."""

import json

import numpy as np
import pytest
import tensorflow as tf
from helpers.programs import TINY, run, usage_error

FREEZE = "('stem_*', 'block0_*')"


def values(workdir):
    """Variables of a run's newest checkpoint, by name."""
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(workdir / "checkpoints")))
    return {
        key.removeprefix("variables/")
        .removesuffix("/.ATTRIBUTES/VARIABLE_VALUE")
        .replace(".S", "/"): reader.get_tensor(key)
        for key in reader.get_variable_to_shape_map()
        if key.startswith("variables/")
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A finished run on four classes."""
    folder = tmp_path_factory.mktemp("source") / "run"
    result = run("train.py", f"--config={TINY}", f"--workdir={folder}", "--mode=train", "--config.epochs=1.0")
    assert result.returncode == 0, result.stderr
    return folder


def tune(workdir, source, *arguments):
    return run(
        "train.py", f"--config={TINY}", f"--workdir={workdir}", f"--config.init.weights={source}",
        "--config.data.source=fake:classes=6,size=16,examples=128", *arguments,
    )  # fmt: skip


@pytest.fixture(scope="module")
def tuned(source, tmp_path_factory):
    """Two runs on six classes from that one, of one replica and of two, without any chance that differs."""
    folder = tmp_path_factory.mktemp("tuned")
    for name, devices in (("one", "cpu"), ("two", "cpu:2")):
        result = tune(
            folder / name, source, f"--devices={devices}", "--mode=train", "--config.epochs=1.0",
            f"--config.init.freeze={FREEZE}", "--config.init.backbone_lr_multiplier=0.1",
            "--config.model.overrides.dropout_rate=0.0", "--config.model.overrides.survival_prob=1.0",
            "--config.weight_decay=0.1", "--config.clip_norm=0.5",
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert "randomly initialized: head_dense/kernel, head_dense/bias" in result.stdout
        assert "all but head_dense at 0.1 of the learning rate; frozen: stem_conv, stem_bn" in result.stdout
    return folder


def test_two_replicas_tune_as_one(source, tuned):
    origin, one, two = values(source), values(tuned / "one"), values(tuned / "two")
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-3, atol=1e-5, err_msg=name)
    frozen = [name for name in one if name.startswith(("ema/stem_", "ema/block0_"))]
    assert len(frozen) > 10
    for name in frozen:
        for ended in (one, two):
            for kind in ("ema", "model"):
                np.testing.assert_array_equal(ended[name.replace("ema", kind, 1)], origin[name], err_msg=name)


def test_a_tuned_run_is_evaluated_and_exported(tuned):
    workdir = tuned / "one"
    result = run("eval.py", f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    (written,) = (workdir / "evaluations").glob("*.json")
    assert json.loads(written.read_text())["examples"] == 50
    result = run("scripts/export.py", f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    loaded = tf.saved_model.load(str(workdir / "saved_model"))
    assert loaded.images(np.zeros((1, 16, 16, 3), np.uint8))["logits"].shape == (1, 6)


def test_usage_errors_are_one_line(source, tmp_path):
    workdir = tmp_path / "run"
    for weights, argument, message in (
        ("/nowhere", "--config.seed=0", "config.init.weights='/nowhere'"),
        (source, "--config.init.freeze=stam_*", "'stam_*' matches no layer with weights of"),
        (source, "--config.model.operator.num_experts=3", "belongs to another network"),
    ):
        line = usage_error(tune(workdir, weights, argument))
        assert line.startswith("train.py: ")
        assert message in line
        assert not workdir.exists()


_LOAD = """
import sys
import numpy as np
from helpers import tiny
from convzoo import models
from convzoo.training import fine_tuning
from convzoo.training.devices import connect
from convzoo.training.experiment import build_model
strategy = connect(devices="cpu:2").strategy
origin = build_model(tiny.get_config(), 4)
models.save_weights(origin, sys.argv[1], {**tiny.OVERRIDES, "operator": tiny.OPERATOR})
with strategy.scope():
    model = build_model(tiny.get_config(), 6)
    fine_tuning.load(fine_tuning.Initialization(sys.argv[1], {}, 4), model, 6, False)
for weight, want in zip(model.weights, origin.weights, strict=True):
    if not fine_tuning.is_classifier(weight):
        for value in strategy.experimental_local_results(weight.value):
            np.testing.assert_array_equal(value.numpy(), want.numpy(), err_msg=weight.path)
"""


def test_every_replica_gets_the_weights_of_a_file(tmp_path):
    program = tmp_path / "load.py"
    program.write_text(_LOAD)
    result = run(program, tmp_path / "a.weights.h5")
    assert result.returncode == 0, result.stderr
