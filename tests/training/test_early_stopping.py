"""Early stopping: scripted metrics, and a run that ends early and is started again."""

import pytest
from helpers import tiny

from convzoo.configs import base
from convzoo.errors import ConfigError
from convzoo.training import checkpoints
from convzoo.training.devices import connect
from convzoo.training.early_stopping import EarlyStopping
from convzoo.training.evaluation import CheckpointEvaluator, Evaluator
from convzoo.training.loop import train
from convzoo.training.metrics import read_metrics


def _stopping(**settings):
    section = base.get_config().early_stopping
    section.update(settings)
    return EarlyStopping(section, "top1")


def _stop_step(values, name="top1", **settings):
    """Returns the number of the evaluation that ends the training, from 1; None if none does."""
    stopping = _stopping(**settings)
    for step, value in enumerate(values, start=1):
        stopping.update(step, {name: value, "examples": 50})
        if stopping.reason:
            return step
    return None


@pytest.mark.parametrize(
    ("values", "settings", "stop"),
    [
        ([0.1, 0.2, 0.2, 0.1, 0.3], {"patience": 2}, 4),
        ([0.1, 0.2, 0.2, 0.1, 0.3], {"patience": 3}, None),
        ([0.1, 0.2, 0.2, 0.1, 0.3], {}, None),
        ([0.1, 0.1, 0.2, 0.2, 0.2], {"patience": 2}, 5),
        ([0.5, 0.55, 0.62, 0.65], {"patience": 1, "min_delta": 0.1}, 2),
        ([0.5, 0.55, 0.62, 0.65, 0.7], {"patience": 2, "min_delta": 0.1}, 5),
        ([0.5, 0.4, 0.3], {"patience": 1}, 2),
        ([0.5, 0.4, 0.3], {"patience": 1, "mode": "min"}, None),
    ],
)
def test_patience_in_evaluations(values, settings, stop):
    assert _stop_step(values, **settings) == stop


def test_lower_losses_are_better():
    assert _stop_step([3.0, 2.0, 2.5, 2.6], "loss", monitor="loss", patience=2) == 4
    assert _stop_step([3.0, 2.0, 2.5, 2.6], "loss", monitor="loss", patience=1, mode="max") == 2


def test_an_unknown_metric_is_named_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"config.early_stopping.monitor='top3' .*loss, top1$"):
        _stopping(patience=1, monitor="top3").update(1, {"top1": 0.5, "loss": 2.0, "examples": 50, "classes": {0: 0.1}})


def test_state_follows_from_the_lines_until_the_restored_step():
    values = {3: 0.5, 6: 0.4, 9: 0.45, 12: 0.6}
    lines = [{"step": 1, "train/loss": 2.0}, *({"step": step, "eval/top1": value} for step, value in values.items())]
    resumed, reason = _stopping(patience=2), "eval/top1 is not above 0.5 of step 3 in the last 2 evaluations"
    resumed.replay(lines, 6)
    assert resumed.reason is None
    resumed.update(9, {"top1": 0.45})
    assert resumed.reason == reason
    restarted = _stopping(patience=2)
    restarted.replay(lines, 9)
    assert restarted.reason == reason


def test_a_run_ends_early_and_stays_ended(tmp_path, monkeypatch, capsys):
    scripted = {"metrics": iter([0.5, 0.4])}
    monkeypatch.setattr(
        Evaluator,
        "evaluate",
        lambda *_, **__: {"top1": next(scripted["metrics"]), "top5": 1.0, "loss": 1.0, "examples": 9},
    )
    monkeypatch.setattr("convzoo.training.loop.RegionMaps", lambda *_: type("None_", (), {"names": ()}))
    config, workdir, devices = tiny.get_config("regions"), str(tmp_path), connect(devices="cpu")
    config.early_stopping.patience, config.eval_every_epochs, config.checkpoint_every_epochs = 1, 0.4, 9.0
    train(config, workdir, devices)
    assert (
        "step 6  stopped early: eval/top1 is not above 0.5 of step 3 in the last 1 evaluations"
        in capsys.readouterr().out
    )
    assert checkpoints.newest(workdir) == f"{workdir}/checkpoints/ckpt-6"
    assert checkpoints.best(workdir) == f"{workdir}/best/ckpt-3"
    with pytest.raises(ConfigError, match="--follow"):
        next(CheckpointEvaluator(config, workdir, devices).follow())
    lines = read_metrics(workdir)
    train(config, workdir, devices)  # would fail without another scripted evaluation
    assert "ckpt-6 stopped early: eval/top1 is not above 0.5" in capsys.readouterr().out
    assert read_metrics(workdir) == lines
    config.early_stopping.patience, scripted["metrics"] = 2, iter([0.6, 0.4, 0.3])
    train(config, workdir, devices)
    assert checkpoints.newest(workdir) == f"{workdir}/checkpoints/ckpt-15"
    assert checkpoints.best(workdir) == f"{workdir}/best/ckpt-9"


def test_training_without_evaluation_cannot_stop_early(tmp_path):
    config = tiny.get_config("regions")
    config.early_stopping.patience = 3
    with pytest.raises(ConfigError, match=r"config.early_stopping.patience=3 .*--mode=train"):
        train(config, str(tmp_path / "run"), connect(devices="cpu"), evaluate=False)
    assert not (tmp_path / "run").exists()
