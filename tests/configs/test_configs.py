"""Every experiment that convzoo ships builds, and the published recipe has the published numbers."""

import functools
import importlib
import json
import pathlib

import pytest

from convzoo import models
from convzoo.configs import base
from convzoo.training.config import validate
from convzoo.training.experiment import augmentation

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
    augmentation(config).check(config.task == "segmentation")
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


def test_the_published_augmentations():
    def of(name, variant):
        return augmentation(_module(name).get_config(variant))

    conditional, plain = (of("efficientnet_condconv_imagenet", variant) for variant in ("b0_8e", "b0"))
    assert (conditional.auto_augment, conditional.mixup) == (True, 0.2)
    assert (plain.auto_augment, plain.mixup) == (True, 0.0)
    assert conditional.crop_area == plain.crop_area == (0.08, 1.0)
    assert of("condconv_imagenet", "resnet50_condconv").mixup == 0.2
    assert not of("condconv_imagenet", "mobilenet_v1_condconv_x0_25").auto_augment
    for variant in ("x0_5", "drconv_x0_5"):
        assert of("shufflenet_v2_drconv_imagenet", variant).jitter == (0.4, 0.4, 0.4)
    for name in ("seesawnet_cifar", "lean_resnet_cifar"):
        assert (of(name, "").crop_area, of(name, "").crop_padding, of(name, "").flip) == (None, 4, True)
    for name in ("seesawnet_imagenet", "shufflenet_v2_drconv_imagenet"):
        assert _module(name).get_config("").data.interpolation == "bilinear"


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


def test_the_recipes_of_seesaw_net():
    config = _module("seesawnet_imagenet").get_config()
    assert (config.batch_size, config.epochs, config.weight_decay) == (96, 480, 4e-5)
    assert (config.optimizer.learning_rate, config.optimizer.momentum, config.optimizer.nesterov) == (0.045, 0.9, False)
    assert (config.schedule.name, config.schedule.decay_epochs, config.schedule.decay_rate) == ("exponential", 1, 0.98)
    fallen, per_epoch = (
        _module("seesawnet_cifar").get_config(f"igcv3_1_0d{ending}") for ending in ("", "_cifar100_per_epoch")
    )
    for config in (fallen, per_epoch):
        assert (config.model.name, config.batch_size, config.epochs) == ("igcv3_1_0d_cifar", 64, 400)
        assert (config.optimizer.learning_rate, config.optimizer.nesterov, config.weight_decay) == (0.1, False, 1e-4)
    assert (fallen.data.source, per_epoch.data.source) == ("tfds:cifar10", "tfds:cifar100")
    assert (fallen.schedule.name, *fallen.schedule.milestones) == ("step", 200, 300, 350)
    assert fallen.schedule.decay_rate == 0.1
    assert (per_epoch.schedule.name, per_epoch.schedule.decay_epochs) == ("exponential", 1)
    assert per_epoch.schedule.decay_rate == 0.98


def test_the_recipe_of_drconv_has_its_control():
    config = _module("shufflenet_v2_drconv_imagenet").get_config("drconv_x0_5")
    assert (config.batch_size, config.epochs, config.weight_decay, config.label_smoothing) == (1024, 240, 4e-5, 0.1)
    assert (config.optimizer.learning_rate, config.optimizer.nesterov, config.schedule.name) == (0.5, False, "linear")
    assert config.model.overrides.regions == 8
    assert "regions" not in _module("shufflenet_v2_drconv_imagenet").get_config("x0_5").model.overrides
