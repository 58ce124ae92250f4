"""Every experiment that convzoo ships builds, and the published recipe has the published numbers."""

import functools
import importlib
import json
import pathlib

import pytest

from convzoo import models
from convzoo.configs import base
from convzoo.training.config import validate

FOLDER = pathlib.Path(__file__).parents[2] / "configs"
EXPERIMENTS = [path.stem for path in sorted(FOLDER.glob("*.py")) if path.stem not in ("__init__", "base")]


def _module(name):
    return importlib.import_module(f"convzoo.configs.{name}")


def _variants(name):
    """Of an experiment that has some: those that its file lists, and none."""
    module = _module(name)
    return sorted({"", *getattr(module, "VARIANTS", ())})


@functools.cache
def _output_shape(name, size, overrides):
    """Of a network for ten classes; once for all variants that share it."""
    return models.create_model(name, 10, (size, size, 3), **json.loads(overrides)).output_shape


@pytest.mark.parametrize(("name", "variant"), [(name, variant) for name in EXPERIMENTS for variant in _variants(name)])
def test_every_experiment_is_valid_and_builds(name, variant):
    config = _module(name).get_config(variant)
    validate(config, num_replicas=8)
    assert set(config) == set(base.get_config())
    size = config.model.image_size or models.info(config.model.name).input_size
    assert _output_shape(config.model.name, size, json.dumps(config.model.overrides.to_dict())) == (None, 10)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_tells_its_command_and_refuses_unknown_variants(name):
    assert f"python train.py --config=configs/{name}.py" in _module(name).__doc__
    with pytest.raises(ValueError, match="variant"):
        _module(name).get_config("no_such_variant")


def test_the_published_recipe():
    config = _module("efficientnet_condconv_imagenet").get_config("b0_4e")
    assert config.optimizer.learning_rate == pytest.approx(0.128)
    assert (config.optimizer.rho, config.optimizer.momentum, config.optimizer.epsilon) == (0.9, 0.9, 1e-3)
    assert (config.schedule.warmup_epochs, config.schedule.decay_epochs, config.schedule.decay_rate) == (5, 2.4, 0.97)
    assert (config.batch_size, config.epochs, config.ema_decay) == (2048, 350, 0.9999)
    assert (config.label_smoothing, config.weight_decay) == (0.1, 1e-5)
    assert config.model.overrides.num_experts == 4


@pytest.mark.parametrize("name", ["digits", "fashion_mnist"])
def test_fine_tuning_and_its_comparison_differ_in_the_start_alone(name):
    tuned, fresh = (_module("fine_tune").get_config(name + ending) for ending in ("", "_from_scratch"))
    assert tuned.init.weights is not None
    assert fresh.init == base.get_config().init
    # The body is trained at the same rate in both.
    assert tuned.optimizer.learning_rate * tuned.init.body_rate == pytest.approx(fresh.optimizer.learning_rate)
    with tuned.unlocked(), fresh.unlocked():
        for config in (tuned, fresh):
            del config.init, config.optimizer.learning_rate
    assert tuned == fresh
