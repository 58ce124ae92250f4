"""The schema of the config: allowed values, rules between fields, JSON and the command line."""

import copy
import json
import math

import pytest
from absl import flags
from helpers import tiny
from ml_collections import ConfigDict, config_flags

from convzoo.configs import base, schema
from convzoo.errors import ConfigError


def _with(field, value, variant=""):
    """Returns the tiny config as nested dicts, with one field set to a value of any type."""
    values = tiny.get_config(variant).to_dict()
    *sections, name = field.split(".")
    section = values
    for part in sections:
        section = section[part]
    section[name] = value
    return values


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("seed", (-1, 2**31, 1.0, True, None)),
        ("deterministic", (1, "true", None)),
        ("task", ("detect", None)),
        ("model.name", ("", 3)),
        ("model.image_size", (0, 224.0, "224")),
        ("model.operator", (3, None, ("num_experts", 4))),
        ("model.overrides", (3, None, ("stem_strides", 1))),
        ("classification.eval_top_k", ((), (5,), (1, 5, 3), (0, 1), (1, 2.5), 5)),
        ("segmentation.output_stride", (0, None)),
        ("segmentation.filters", (0, 2.5)),
        ("segmentation.low_level_filters", (0, "48")),
        ("segmentation.atrous_rates", ((), (0, 2), (1.5,), 6, "6")),
        ("segmentation.decoder", ("unet", None)),
        ("segmentation.eval_size", ((0, 5), (5,), 5)),
        ("segmentation.eval_scales", ((), (0.0,), None)),
        ("segmentation.eval_flip", (1, None)),
        ("segmentation.head_dropout_rate", (1.0, -0.1, math.nan)),
        ("detector.neck", ("pan", None)),
        ("detector.lite", (1, None)),
        ("detector.extra_filters", ((0,), (1.5,), 6, "6")),
        ("detector.pyramid_filters", (0, 2.5)),
        ("detector.head_convs", (-1, 2.5)),
        ("detector.min_level", (0, 6)),
        ("detector.max_level", (4, 11)),
        ("detection.class_loss", ("hinge", None)),
        ("detection.focal_alpha", (1.1, -0.1)),
        ("detection.focal_gamma", (-1.0, math.inf)),
        ("detection.box_loss_weight", (0.0, None)),
        ("detection.match_threshold", (0.0, 1.1)),
        ("detection.nms_threshold", (0.0, 1.1)),
        ("detection.score_threshold", (-0.1, 1.1)),
        ("detection.max_detections", (0, 1001, 2.5)),
        ("init.weights", ("", 1)),
        ("init.new_classifier", (0,)),
        ("init.freeze", ((), "stem_*", (1,), ("",))),
        ("trackers", (None, "wandb", ("nothing",), ("wandb", "wandb"))),
        ("callbacks", (None, "a:b", ("",), ("a:b", "a:b"))),
        ("init.backbone_lr_multiplier", (0.0, -1.0, math.inf)),
        ("data.source", ("", 1)),
        ("data.data_dir", ("",)),
        ("data.train_split", ("", None)),
        ("data.eval_split", ("", None)),
        ("data.crop_area", ((), (0.0, 1.0), (0.5, 1.1), (0.5, 0.1), (0.5,), 0.5)),
        ("data.crop_aspect", (None, (0.0, 1.0), (2.0, 1.0), (1.0, math.inf))),
        ("data.crop_padding", (0, -4, 4.0)),
        ("data.scale_jitter", ((0.0, 1.0), (2.0, 0.5), (0.5,), 0.5)),
        ("data.flip", (0.5, None)),
        ("data.color_jitter", ((), (0.4, 0.4), (0.4, 0.4, -0.4), 0.4)),
        ("data.auto_augment", ("v0",)),
        ("data.rand_augment", ((), (0, 10.0), (1000, 10), (2, 31.0), (2.5, 10.0), (2,))),
        ("data.random_erasing", (-0.1, 1.1, None)),
        ("data.mixup", (0.0, -0.2, math.inf)),
        ("data.cutmix", (0.0, math.nan, True)),
        ("data.repeated_augmentation", (0, None)),
        ("data.interpolation", ("nearest", "")),
        ("data.mean", ((1.0, 2.0), "imagenet", (1.0, 2.0, math.nan))),
        ("data.std", ((1.0, 2.0, 0.0), (1.0, 2.0), 3.0)),
        ("data.crop_fraction", (0.0, 1.1)),
        ("data.shuffle_buffer", (0, 16.0)),
        ("data.max_corrupt_fraction", (-0.1, 1.1)),
        ("data.service", ("",)),
        ("batch_size", (0, -8, "x", 2.5, True)),
        ("eval_batch_size", (0, 2.5)),
        ("epochs", (0.0, math.nan, math.inf, "3", True)),
        ("precision", ("float8", None)),
        ("remat", (None, 1)),
        ("batch_norm_replicas", (0,)),
        ("gradient_accumulation_steps", (0, None)),
        ("clip_norm", (0.0, math.inf)),
        ("log_norms", (None, 1)),
        ("label_smoothing", (-0.1, 1.0, None)),
        ("weight_decay_on", ((), ("bn",), "kernels", None)),
        ("weight_decay", (-1e-4, 1.1, None)),
        ("optimizer.name", ("adam", None)),
        ("optimizer.learning_rate", (-0.1, math.nan, math.inf)),
        ("optimizer.momentum", (1.5, 1.0, -0.1)),
        ("optimizer.rho", (1.0, -0.1)),
        ("optimizer.epsilon", (0.0, math.inf)),
        ("optimizer.nesterov", (0.5, 1)),
        ("optimizer.beta_1", (1.0, 0.0)),
        ("optimizer.beta_2", (1.0, "0.9")),
        ("optimizer.trust_coefficient", (0.0, math.nan)),
        ("optimizer.decoupled_weight_decay", (0.5, 1)),
        (
            "optimizer.lr_multipliers",
            (None, "x", (("a",),), (("a", 0.0),), (("a", math.nan),), (("", 1.0),), ("a", 1.0)),
        ),
        (
            "weight_decay_multipliers",
            (None, "x", (("a",),), (("a", -1.0),), (("a", math.nan),), (("", 1.0),), ("a", 1.0)),
        ),
        ("verification.embedding_size", (0, 1.5)),
        ("verification.loss", ("triplet", None)),
        ("verification.margin", (0.0, 3.2, math.nan)),
        ("verification.scale", (0.0, None)),
        ("verification.pairs", ("",)),
        ("verification.num_pairs", (1, None)),
        ("verification.num_folds", (0, 1001)),
        ("verification.pair_seed", (-1, None)),
        ("verification.mirror", (1, None)),
        ("schedule.name", ("steps", None)),
        ("schedule.warmup_epochs", (-1.0, None)),
        ("schedule.cooldown_epochs", (-1.0, None)),
        ("schedule.cycle_epochs", (0.0, math.inf)),
        ("schedule.timescale_epochs", (0.0, math.inf)),
        ("schedule.decay_epochs", (0.0, math.nan)),
        ("schedule.decay_rate", (0.0, 1.5)),
        ("schedule.milestones", ((), (2.0, 1.0), (1.0, 1.0), (0.0, 1.0), 200.0, ("1",))),
        ("schedule.end_factor", (-5, 1.1, None)),
        ("schedule.power", (0.0, None)),
        ("early_stopping.patience", (0, 2.5)),
        ("early_stopping.monitor", ("", 1)),
        ("early_stopping.mode", ("lower", None)),
        ("early_stopping.min_delta", (-0.1, None)),
        ("ema_decay", (1.0, -0.1)),
        ("steps_per_loop", (0, 2.5)),
        ("eval_every_epochs", (0.0, None)),
        ("checkpoint_every_epochs", (0.0, -1.0)),
        ("checkpoint_every_minutes", (0.0, math.inf)),
        ("keep_checkpoints", (0, True)),
    ],
)
def test_invalid_value_is_refused(field, values):
    for value in values:
        with pytest.raises(ConfigError) as caught:
            schema.from_dict(_with(field, value))
        message = str(caught.value)
        assert f"config.{field}={value!r}" in message
        assert "\n" not in message


def test_table_of_invalid_values_covers_every_field():
    (mark,) = test_invalid_value_is_refused.pytestmark
    assert {field for field, _ in mark.args[1]} == set(schema._fields())


@pytest.mark.parametrize("field", ["model.name", "data.source", "batch_size", "epochs", "optimizer.learning_rate"])
def test_required_field_is_unset_in_base_and_must_be_set(field):
    assert base.get_config()[field] is None
    with pytest.raises(ConfigError, match=f"config.{field} "):
        schema.validate(ConfigDict(_with(field, None)), num_replicas=1)


def test_unknown_and_missing_fields_are_named():
    with pytest.raises(ConfigError, match=r"config\.optimizer\.learning_rat=0\.1"):
        schema.from_dict(_with("optimizer.learning_rat", 0.1))
    with pytest.raises(ConfigError, match=r"config\.augmentation="):
        schema.from_dict(_with("augmentation", {"flip": True}))
    values = tiny.get_config().to_dict()
    del values["ema_decay"], values["data"]["mixup"]
    with pytest.raises(ConfigError, match=r"(?s)(?=.*config.ema_decay)(?=.*config.data.mixup)"):
        schema.from_dict(values)
    with pytest.raises(ConfigError, match=r"config\.init\.weights"):
        schema.from_dict(_with("init", None))
    with pytest.raises(ConfigError, match=r"config\.seed"):
        schema.validate(ConfigDict({"batch_size": 8}), num_replicas=1)


@pytest.mark.parametrize(
    ("changes", "replicas", "named"),
    [
        ({"batch_size": 100}, 8, "config.batch_size=100 .* 8 replicas"),
        ({"eval_batch_size": 12}, 8, "config.eval_batch_size=12 .* 8 replicas"),
        ({"gradient_accumulation_steps": 3}, 8, "config.batch_size=16 .*config.gradient_accumulation_steps=3"),
        ({"batch_norm_replicas": 3}, 8, "config.batch_norm_replicas=3 .* 8 replicas"),
        ({"deterministic": True}, 2, "config.deterministic=True .* 2 replicas"),
        ({"schedule.name": "step"}, 1, "config.schedule.milestones=None .*'step'"),
        ({"schedule.milestones": (1.0,)}, 1, r"config.schedule.milestones=\(1.0,\) .*'cosine'"),
        ({"schedule.warmup_epochs": 4.0}, 1, "config.schedule.warmup_epochs=4.0 .*config.epochs=3.0"),
        ({"schedule.cooldown_epochs": 4.0}, 1, "config.schedule.cooldown_epochs=4.0 .*config.epochs=3.0"),
        ({"schedule.name": "rsqrt"}, 1, "config.schedule.timescale_epochs=None .*'rsqrt'"),
        ({"schedule.cycle_epochs": 1.0}, 1, "config.schedule.cycle_epochs=1.0 .*'cosine'.*'cosine_restarts'"),
        ({"optimizer.beta_1": 0.9}, 1, "config.optimizer.beta_1=0.9 .*'rmsprop'.*adamw, lamb, lion, muon"),
        ({"optimizer.name": "adamw", "optimizer.momentum": 0.9}, 1, "config.optimizer.momentum=0.9 .*'adamw'"),
        ({"optimizer.name": "lars", "optimizer.nesterov": False}, 1, "config.optimizer.nesterov=False .*'lars'.*sgd"),
        (
            {"optimizer.name": "lion", "optimizer.decoupled_weight_decay": True},
            1,
            "config.optimizer.decoupled_weight_decay=True .*'lion'.*rmsprop, sgd",
        ),
        ({"precision": "mixed_float16", "log_norms": True}, 1, "config.log_norms=True .*'mixed_float16'"),
        ({"early_stopping.min_delta": 0.1}, 1, "config.early_stopping.min_delta=0.1 .*patience=None"),
        ({"task": "segmentation", "data.crop_fraction": 0.9}, 1, "config.data.crop_fraction=0.9 .*'segmentation'"),
    ],
)
def test_rule_between_fields(changes, replicas, named):
    config = tiny.get_config()
    config.update_from_flattened_dict(changes)
    with pytest.raises(ConfigError, match=named) as caught:
        schema.validate(config, replicas)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_norm_replicas": 4},
        {"gradient_accumulation_steps": 2, "eval_batch_size": 8},
        {"schedule.name": "step", "schedule.milestones": [1, 2]},
        {"data.crop_area": None, "data.crop_padding": 4},
        {"data.rand_augment": (2, 10)},
        {"checkpoint_every_minutes": None, "ema_decay": None},
        {"epochs": 1},
    ],
)
def test_valid_values_are_accepted(changes):
    config = tiny.get_config()
    config.update_from_flattened_dict(changes)
    schema.validate(config, num_replicas=8)


def test_defaults_are_valid():
    for name, field in schema._fields().items():
        if not field.info.is_required():
            loaded = schema.from_dict(_with(name, copy.deepcopy(field.info.default))).to_dict()
            assert loaded == _with(name, field.info.default)


@pytest.mark.parametrize("variant", ["", *tiny.get_config.variants])
def test_round_trip_through_json(variant):
    config = tiny.get_config(variant)
    config.init.freeze = ("stem_*", "block[0-3]_*")
    loaded = schema.from_dict(json.loads(json.dumps(config.to_dict())))
    assert loaded.is_locked
    assert loaded.init.freeze == config.init.freeze
    assert json.dumps(loaded.to_dict(), sort_keys=True) == json.dumps(config.to_dict(), sort_keys=True)
    assert loaded.data == config.data
    schema.validate(loaded, num_replicas=1)


def test_config_is_typed_and_locked():
    config = tiny.get_config()
    with pytest.raises(AttributeError, match="learning_rat"):
        config.optimizer.learning_rat = 0.1
    with pytest.raises(AttributeError, match="expert"):
        config.model.overrides.expert = 4
    for field, value in (("batch_size", "x"), ("ema_decay", "x"), ("data.crop_area", 0.5), ("precision", 16)):
        with pytest.raises(TypeError):
            config.update_from_flattened_dict({field: value})
    config.epochs = 2
    assert isinstance(config.epochs, float)
    assert base.get_config().epochs is None  # defaults are not shared between configs


def _parse(*overrides):
    values = flags.FlagValues()
    arguments = ["train.py", f"--config={tiny.__file__}", *overrides]
    config_flags.DEFINE_config_file("config", None, "", flag_values=values, sys_argv=arguments)
    values(arguments)
    return values.config


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("batch_size=32", 32),
        ("epochs=2", 2.0),
        ("clip_norm=1.5", 1.5),
        ("ema_decay=None", None),
        ("checkpoint_every_minutes=None", None),
        ("checkpoint_every_minutes=5", 5.0),
        ("eval_batch_size=64", 64),
        ("init.weights=runs/a", "runs/a"),
        ("init.weights=None", None),
        ("init.freeze=stem_*", ("stem_*",)),
        ("early_stopping.patience=3", 3),
        ("init.freeze=('stem_*', 'block*')", ("stem_*", "block*")),
        ("data.crop_area=(0.5, 1.0)", (0.5, 1.0)),
        ("data.crop_area=None", None),
        ("data.crop_aspect=1.0,1.0", (1.0, 1.0)),
        ("data.mixup=0.2", 0.2),
        ("data.mixup=None", None),
        ("data.rand_augment=(2, 10)", (2, 10)),
        ("data.flip=false", False),
        ("data.interpolation=bicubic", "bicubic"),
        ("model.operator.num_experts=3", 3),
    ],
)
def test_command_line_override(override, value):
    field, _ = override.split("=", 1)
    config = _parse(f"--config.{override}")
    assert config[field] == value
    schema.validate(config, num_replicas=1)


def test_repeated_flag_of_a_tuple():
    assert _parse("--config.init.freeze=stem_*", "--config.init.freeze=block*").init.freeze == ("stem_*", "block*")


@pytest.mark.parametrize(
    "override", ["batch_size=many", "batch_size=2.5", "epochs=x", "data.mixup=x", "data.flip=maybe", "seed=None"]
)
def test_command_line_override_of_the_wrong_type(override):
    with pytest.raises(flags.Error, match=override.split("=")[1]):
        _parse(f"--config.{override}")


@pytest.mark.parametrize("override", ["optimizer.learning_rat=1", "model.overrides.expert=1", "learning_rate=1"])
def test_command_line_override_of_an_unknown_field(override):
    with pytest.raises((AttributeError, KeyError), match=override.split("=")[0].split(".")[-1]):
        _parse(f"--config.{override}")


def test_fields_that_may_change_exist():
    names = schema.fields_that_may_change()
    assert "steps_per_loop" in names
    assert "data.service" in names
    assert not {"seed", "batch_size", "epochs", "optimizer.learning_rate"} & set(names)
    for name in names:
        base.get_config().get_type(name.split(".")[0])
        assert name in schema._fields()


def test_fields_table_describes_every_field():
    header, _, *rows = schema.fields_table().splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[0] for row in cells] == [f"`{name}`" for name in schema._fields()]
    assert all(len(row) == header.count("|") - 1 and row[4] for row in cells)
    by_name = {row[0].strip("`"): row for row in cells}
    assert by_name["batch_size"][1:4] == ["int", "required", ">= 1"]
    assert by_name["data.mixup"][1:4] == ["float or None", "`None`", "> 0"]
    assert by_name["schedule.end_factor"][1:4] == ["float", "`0.0`", ">= 0 and <= 1"]
