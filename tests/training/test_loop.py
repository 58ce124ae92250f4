"""Complete runs of a tiny network: results, resuming, evaluation, invalid experiments."""

import math
import os
import re
import shutil
import signal
import time

import numpy as np
import pytest
import tensorflow as tf
from helpers import tiny

from convzoo import data
from convzoo.errors import ConfigError, TrainingError
from convzoo.training import checkpoints
from convzoo.training.checkpoints import find_checkpoint
from convzoo.training.devices import connect
from convzoo.training.evaluation import CheckpointEvaluator
from convzoo.training.experiment import build_model, input_settings, open_source
from convzoo.training.loop import train
from convzoo.training.metrics import MetricsWriter, read_metrics, without_times
from convzoo.training.signals import Interrupted, StopRequest
from convzoo.training.workdir import load_config


@pytest.fixture(scope="module")
def devices():
    return connect(devices="cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory, devices):
    """Workdir of a finished run of 24 steps that saves and evaluates every 9: an epoch of 8 in whole loops of 3."""
    workdir = str(tmp_path_factory.mktemp("run"))
    train(tiny.get_config(), workdir, devices)
    return workdir


def _variables(path):
    reader = tf.train.load_checkpoint(path)
    return {key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map() if key.startswith("variables/")}


def test_files_of_a_run(run):
    lines = read_metrics(run)
    steps = [line["step"] for line in lines if "train/loss" in line]
    assert steps == [1, 3, 6, 9, 12, 15, 18, 21, 24]
    assert [line["step"] for line in lines if "eval/top1" in line] == [9, 18, 24]
    assert next(iter(lines[0])) == "step"
    assert all(math.isfinite(value) for line in lines for value in line.values())
    assert lines[-1]["eval/examples"] == 50
    assert [
        name.split("-")[-1] for name in tf.train.get_checkpoint_state(f"{run}/checkpoints").all_model_checkpoint_paths
    ] == [
        "9",
        "18",
        "24",
    ]
    info = checkpoints.read_best_info(run)
    assert info["value"] == max(line["eval/top1"] for line in lines if "eval/top1" in line)
    assert find_checkpoint(run, "best").endswith(f"ckpt-{info['step']}")


def test_training_changes_every_weight(run):
    model = build_model(load_config(run), 4)
    initial = {weight.path: weight.numpy() for weight in model.weights}
    checkpoints.restore(
        find_checkpoint(run, "newest"), checkpoints.prefixed("model", checkpoints.model_variables(model))
    )
    unchanged = [weight.path for weight in model.weights if np.array_equal(weight.numpy(), initial[weight.path])]
    assert unchanged == []


def test_resumed_run_equals_uninterrupted_run(run, devices, tmp_path, capsys):
    workdir = tmp_path / "resumed"
    (workdir / "checkpoints").mkdir(parents=True)
    shutil.copy(f"{run}/config.json", workdir)
    shutil.copy(f"{run}/metrics.jsonl", workdir)
    for name in ("ckpt-18.index", "ckpt-18.data-00000-of-00001"):
        shutil.copy(f"{run}/checkpoints/{name}", workdir / "checkpoints")
    (workdir / "checkpoints" / "checkpoint").write_text(
        'model_checkpoint_path: "ckpt-18"\nall_model_checkpoint_paths: "ckpt-18"\n'
    )
    train(tiny.get_config(), str(workdir), devices)
    assert f"resuming from {workdir}/checkpoints/ckpt-18, step 18" in capsys.readouterr().out
    uninterrupted, resumed = (_variables(f"{folder}/checkpoints/ckpt-24") for folder in (run, workdir))
    assert set(uninterrupted) == set(resumed)
    for key in uninterrupted:
        np.testing.assert_allclose(resumed[key], uninterrupted[key], rtol=1e-4, atol=1e-5, err_msg=key)
    # Lines of repeated steps are not written twice.
    steps = [line["step"] for line in read_metrics(str(workdir)) if "train/loss" in line]
    assert steps == sorted(set(steps))
    assert steps[-1] == 24


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_saves_and_the_run_resumes(run, devices, tmp_path, monkeypatch, capsys, number):
    workdir = str(tmp_path / "stopped")
    config = tiny.get_config()
    config.eval_every_epochs = config.checkpoint_every_epochs = 3.0
    write = MetricsWriter.write

    def write_and_signal(writer, step, scalars):
        write(writer, step, scalars)
        if step == 9:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(MetricsWriter, "write", write_and_signal)
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=number.name) as caught:
        train(config, workdir, devices)
    assert caught.value.number == number
    assert signal.getsignal(number) is before
    assert checkpoints.newest(workdir) == f"{workdir}/checkpoints/ckpt-9"
    assert "resumes from step 9" in capsys.readouterr().out
    monkeypatch.undo()
    train(config, workdir, devices)
    resumed, uninterrupted = (_variables(f"{folder}/checkpoints/ckpt-24") for folder in (workdir, run))
    for key in uninterrupted:
        np.testing.assert_allclose(resumed[key], uninterrupted[key], rtol=1e-4, atol=1e-5, err_msg=key)


def test_checkpoint_every_minutes(devices, tmp_path):
    config = tiny.get_config()
    config.checkpoint_every_epochs = 3.0
    config.checkpoint_every_minutes = 1e-6
    train(config, str(tmp_path), devices, evaluate=False)
    paths = [f"{tmp_path}/checkpoints/ckpt-{step}" for step in (18, 21, 24)]  # at the end of each loop
    assert checkpoints.list_checkpoints(str(tmp_path)) == paths


def test_profile_does_not_change_the_run(run, devices, tmp_path, capsys):
    train(tiny.get_config(), str(tmp_path), devices, profile=(4, 7))
    assert "steps 5 to 7" in capsys.readouterr().out
    (profile,) = tmp_path.glob("tensorboard/plugins/profile/*/*.xplane.pb")
    assert profile.stat().st_size > 10_000
    for line, without in zip(read_metrics(str(tmp_path)), read_metrics(run), strict=True):
        assert without_times(line) == pytest.approx(without_times(without), rel=1e-3)


def test_profile_after_the_last_step_is_refused(devices, tmp_path):
    with pytest.raises(ConfigError, match=r"--profile=3:25 .* 24"):
        train(tiny.get_config(), str(tmp_path), devices, profile=(3, 25))
    assert list(tmp_path.iterdir()) == []


def test_slow_input_is_reported(devices, tmp_path, monkeypatch, capsys):
    train_dataset = data.train_dataset

    def slow(*arguments, **settings):
        def wait(batch):
            done = tf.numpy_function(lambda: time.sleep(0.5) or np.float32(0), [], tf.float32)
            with tf.control_dependencies([done]):
                return {name: tf.identity(value) for name, value in batch.items()}

        return train_dataset(*arguments, **settings).map(wait, num_parallel_calls=1)

    monkeypatch.setattr(data, "train_dataset", slow)
    config = tiny.get_config()
    config.epochs = 1.5
    train(config, str(tmp_path), devices, evaluate=False)
    # Each of the last three steps waited for half a second.
    assert re.search(r"step 12/12 .*waiting for input \d+%", capsys.readouterr().out)
    lines = [line for line in read_metrics(str(tmp_path)) if "time/input_share" in line]
    assert lines[-1]["time/step_seconds"] > 0.15
    assert 0 < lines[-1]["time/input_share"] < 1


def test_second_signal_raises_at_once():
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.number == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_corrupt_checkpoint_is_skipped(run, devices, tmp_path, capsys):
    workdir = tmp_path / "corrupt"
    shutil.copytree(run, workdir)
    newest = workdir / "checkpoints" / "ckpt-24.data-00000-of-00001"
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="ckpt-24"):
        CheckpointEvaluator(load_config(run), run, devices).evaluate(find_checkpoint(str(workdir), "newest"))
    train(tiny.get_config(), str(workdir), devices)
    output = capsys.readouterr().out
    assert "ckpt-24' is corrupt" in output
    assert "ckpt-18, step 18" in output
    resumed, uninterrupted = (_variables(f"{folder}/checkpoints/ckpt-24") for folder in (workdir, run))
    for key in uninterrupted:
        np.testing.assert_allclose(resumed[key], uninterrupted[key], rtol=1e-4, atol=1e-5, err_msg=key)


def test_complete_run_is_unchanged(run, devices, capsys):
    before = read_metrics(run)
    train(tiny.get_config(), run, devices)
    assert read_metrics(run) == before
    assert "is complete at step 24" in capsys.readouterr().out


def test_evaluation_counts_every_example_once(run, devices):
    config = load_config(run)
    evaluator = CheckpointEvaluator(config, run, devices, split="test[:37]", weights="raw", batch_size=16)
    result = evaluator.evaluate(find_checkpoint(run, "newest"))
    source = open_source(config)
    model = build_model(config, source.num_classes)
    checkpoints.restore(result["checkpoint"], checkpoints.prefixed("model", checkpoints.model_variables(model)))
    settings = input_settings(config)
    examples = list(source.dataset("test[:37]"))
    images = tf.stack([data.eval_transform(example["image"], **settings) for example in examples])
    labels = np.array([int(example["label"]) for example in examples])
    logits = model(images, training=False).numpy()
    assert result["examples"] == 37
    assert result["top1"] == pytest.approx((logits.argmax(-1) == labels).mean())
    assert result["top5"] == 1.0  # of 4 classes
    log_softmax = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    assert result["loss"] == pytest.approx(-log_softmax[np.arange(37), labels].mean(), rel=1e-4)


def test_ema_and_raw_weights(run, devices):
    path, config = find_checkpoint(run, "newest"), load_config(run)
    results = {
        kind: CheckpointEvaluator(config, run, devices, weights=kind).evaluate(path) for kind in ("auto", "ema", "raw")
    }
    assert results["auto"]["loss"] == results["ema"]["loss"] != results["raw"]["loss"]
    assert (results["auto"]["weights"], results["raw"]["weights"]) == ("ema", "raw")
    # Evaluation during training gives the same metrics as evaluation of the checkpoint.
    last = [line for line in read_metrics(run) if "eval/loss" in line][-1]
    assert results["ema"]["loss"] == pytest.approx(last["eval/loss"], rel=1e-5)


def test_follow_ends_at_the_last_step(run, devices):
    results = list(CheckpointEvaluator(load_config(run), run, devices).follow(timeout=60))
    assert [result["step"] for result in results] == [24]


def test_follow_keeps_the_best_checkpoint(devices, tmp_path):
    config = tiny.get_config()
    train(config, str(tmp_path), devices, evaluate=False)
    with pytest.raises(ConfigError, match="has no best checkpoint"):
        find_checkpoint(str(tmp_path), "best")
    (result,) = CheckpointEvaluator(config, str(tmp_path), devices).follow(timeout=60)
    best = find_checkpoint(str(tmp_path), "best")
    assert best.endswith("best/ckpt-24")
    assert checkpoints.read_best_info(str(tmp_path)) == {"step": 24, "metric": "top1", "value": result["top1"]}
    assert CheckpointEvaluator(config, str(tmp_path), devices).evaluate(best)["loss"] == pytest.approx(
        result["loss"], rel=1e-6
    )
    config.epochs = 4.0
    with pytest.raises(ConfigError, match=r"no new checkpoint .* 1 s"):
        list(CheckpointEvaluator(config, str(tmp_path), devices).follow(timeout=1))


def test_checkpoint_of_another_network(run, devices):
    config = load_config(run)
    config.model.operator.num_experts = 3
    with pytest.raises(
        ConfigError, match=r"another network: 0 of \d+ variables are missing and \d+ have another shape"
    ):
        CheckpointEvaluator(config, run, devices).evaluate(find_checkpoint(run, "newest"))
    with pytest.raises(ConfigError, match="'none'"):
        find_checkpoint(run, "none")
    with pytest.raises(ConfigError, match="/nonexistent"):
        find_checkpoint("/nonexistent", "newest")


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_the_temperature_of_routing_is_annealed(ema_decay, devices, tmp_path):
    config = tiny.get_config()
    with config.unlocked():
        config.model.operator.update({"routing": "softmax", "temperature": 30.0, "annealing_steps": 4})
    config.ema_decay, config.epochs = ema_decay, 1.0
    train(config, str(tmp_path), devices)
    values = _variables(find_checkpoint(str(tmp_path), "newest"))
    # Evaluation in training uses the count but does not add to it.
    counts = [value for name, value in values.items() if "_routing.Sstep" in name]
    assert counts == [8] * (2 if ema_decay is None else 4)


def test_a_network_that_is_not_finite_is_not_evaluated(run, devices, monkeypatch):
    load = checkpoints.load

    def load_nan(workdir, which, model, kind):
        result = load(workdir, which, model, kind)
        model.get_layer("stem_conv").kernel.assign(model.get_layer("stem_conv").kernel * float("nan"))
        return result

    monkeypatch.setattr(checkpoints, "load", load_nan)
    with pytest.raises(TrainingError, match="stem_conv/kernel has NaN"):
        CheckpointEvaluator(load_config(run), run, devices).evaluate("newest")


def test_run_without_moving_average(devices, tmp_path):
    config = tiny.get_config()
    config.ema_decay = None
    config.epochs, config.schedule.warmup_epochs = 0.25, 0.0
    train(config, str(tmp_path), devices, evaluate=False)
    path = find_checkpoint(str(tmp_path), "newest")
    assert CheckpointEvaluator(config, str(tmp_path), devices).evaluate(path)["weights"] == "raw"
    with pytest.raises(ConfigError, match="--weights=raw"):
        CheckpointEvaluator(config, str(tmp_path), devices, weights="ema").evaluate(path)
    with pytest.raises(ConfigError, match="has no best checkpoint"):
        find_checkpoint(str(tmp_path), "best")


def test_diverged_loss_names_metric_and_step(devices, tmp_path):
    config = tiny.get_config()
    config.optimizer.learning_rate = 1e30
    config.schedule.warmup_epochs = 0.0
    with pytest.raises(TrainingError, match=r"train/loss .* step \d+ .*config\.optimizer\.learning_rate"):
        train(config, str(tmp_path), devices)


def test_mixed_bfloat16_trains_float32_weights(devices, tmp_path):
    config = tiny.get_config()
    config.precision = "mixed_bfloat16"
    config.epochs = 1.0
    config.gradient_accumulation_steps = 2
    config.clip_norm = 1.0
    train(config, str(tmp_path), devices)
    values = _variables(find_checkpoint(str(tmp_path), "newest"))
    assert {value.dtype.name for value in values.values()} <= {"float32", "int32", "int64", "uint32"}
    assert all(np.isfinite(value).all() for value in values.values())


def test_invalid_experiments_write_nothing(devices, tmp_path):
    config = tiny.get_config()
    config.model.name = "efficientnet_b99"
    workdir = tmp_path / "never"
    with pytest.raises(ValueError, match="efficientnet_b99"):
        train(config, str(workdir), devices)
    config = tiny.get_config()
    config.data.eval_split = "validation"
    with pytest.raises(ValueError, match="validation"):
        train(config, str(workdir), devices)
    for field, value, message in (
        ("data.crop_fraction", 1.5, "crop_fraction=1.5"),
        ("data.crop_area", (0.5,), "crop_area"),
        ("model.operator.num_experts", 0, "num_experts"),
        (
            "model.overrides.dropout_rate",
            1.5,
            "dropout_rate=1.5",
        ),
        ("epochs", 0.01, "config.epochs=0.01"),
    ):
        config = tiny.get_config()
        config.schedule.warmup_epochs = 0.0
        with config.ignore_type():
            config.update_from_flattened_dict({field: value})
        with pytest.raises(ValueError, match=message):
            train(config, str(workdir), devices)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write to --workdir="):
        train(tiny.get_config(), str(tmp_path / "file"), devices)
    assert not workdir.exists()
