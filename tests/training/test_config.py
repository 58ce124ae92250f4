"""Experiments: what is refused, and their life in a workdir."""

import json

import ml_collections
import pytest
from helpers import tiny

from convzoo.training import config as experiment_config
from convzoo.training.config import ConfigError


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("batch_size", 100, "batch_size 100 does not divide by 8 replicas"),
        ("eval_batch_size", 12, "eval_batch_size 12 does not divide by 8 replicas"),
        ("gradient_accumulation", 3, "16 does not divide by 8 replicas times gradient_accumulation 3"),
        ("precision", "float8", "config.precision is 'float8'; choose one of float32, mixed_bfloat16"),
        ("optimizer.name", "adamw", "config.optimizer.name is 'adamw'"),
        ("schedule.name", "steps", "config.schedule.name is 'steps'"),
        ("schedule.name", "step", r"milestones is \(\): milestones and the schedule step go together"),
        ("schedule.milestones", (1.0,), "'cosine' and config.schedule.milestones is .*; set both or neither"),
        ("schedule.milestones", (2.0, 1.0), r"milestones is \(2.0, 1.0\); write rising epochs"),
        ("steps_per_loop", 0, "config.steps_per_loop is 0; it must be at least 1"),
        ("ema_decay", 1.0, "ema_decay is 1.0"),
        ("seed", -1, "config.seed is -1; it must be between 0"),
        ("clip_norm", 0.0, "config.clip_norm is 0.0; it must be above 0"),
        ("eval_every_epochs", 0.0, "config.eval_every_epochs is 0.0; it must be above 0"),
        ("optimizer.momentum", 1.5, "config.optimizer.momentum is 1.5; it must be between 0 and 0.9999"),
        ("label_smoothing", -0.1, "label_smoothing is -0.1"),
        ("schedule.warmup_epochs", 4.0, "longer than the training"),
        ("model.name", None, "config.model.name is not set"),
        ("optimizer.learning_rate", None, "config.optimizer.learning_rate is not set"),
    ],
)
def test_a_mistake_names_field_and_value(field, value, message):
    config = tiny.get_config()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ConfigError, match=message) as caught:
        experiment_config.validate(config, num_replicas=8)
    assert "\n" not in str(caught.value)


def test_the_tiny_experiment_is_valid():
    experiment_config.validate(tiny.get_config(), num_replicas=2)


def test_a_field_that_does_not_exist_is_refused():
    config = tiny.get_config()
    with pytest.raises(AttributeError, match="learning_rat"):
        config.optimizer.learning_rat = 0.1


def test_a_workdir_keeps_its_experiment(tmp_path):
    workdir = str(tmp_path / "run")
    config = tiny.get_config()
    experiment_config.claim(config, workdir)
    experiment_config.claim(config, workdir)
    loaded = experiment_config.load(workdir)
    assert loaded.model.overrides.blocks == list(tiny.BLOCKS)
    assert loaded.optimizer.learning_rate == 0.01
    assert set(json.loads((tmp_path / "run" / "config.json").read_text())) == {
        "convzoo",
        "keras",
        "tensorflow",
        "config",
    }
    config.steps_per_loop = 7
    experiment_config.claim(config, workdir)
    config.optimizer.learning_rate = 0.02
    with pytest.raises(ConfigError, match=r"holds another experiment: optimizer.learning_rate is 0.01 there and 0.02"):
        experiment_config.claim(config, workdir)


def test_a_workdir_that_holds_no_experiment(tmp_path):
    with pytest.raises(ConfigError, match="holds no experiment"):
        experiment_config.load(str(tmp_path))
    (tmp_path / "config.json").write_text('{"config"')
    with pytest.raises(ConfigError, match="is not a convzoo config"):
        experiment_config.load(str(tmp_path))


def test_an_experiment_that_does_not_start_from_the_base():
    with pytest.raises(ConfigError, match=r"has no field config.model.name; start it from configs/base.py"):
        experiment_config.validate(ml_collections.ConfigDict({"batch_size": 8}), num_replicas=1)


def test_a_workdir_of_an_earlier_version_has_todays_fields(tmp_path):
    config = tiny.get_config()
    experiment_config.claim(config, str(tmp_path))
    path = tmp_path / "config.json"
    record = json.loads(path.read_text())
    for room in ("segmentation", "init"):
        del record["config"][room]
    del record["config"]["task"], record["config"]["schedule"]["milestones"]
    path.write_text(json.dumps(record))
    loaded = experiment_config.load(str(tmp_path))
    assert (loaded.task, loaded.init.weights, loaded.segmentation.filters) == ("classification", None, 256)
    # And goes on as what it was.
    experiment_config.claim(config, str(tmp_path))
    config.task = "segmentation"
    with pytest.raises(ConfigError, match="task is 'classification' there and 'segmentation' here"):
        experiment_config.claim(config, str(tmp_path))
