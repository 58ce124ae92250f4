"""Every experiment builds and is valid, and the variants of a study differ only in what the study compares."""

import functools
import importlib
import json
import pathlib

import pytest

from convzoo import configs, models
from convzoo.configs import base, lean_resnet_imagenet, schema, seesawnet_imagenet
from convzoo.configs.variants import variants
from convzoo.errors import ConfigError
from convzoo.tasks import get_task
from convzoo.training.experiment import augmentation, model_arguments

FOLDER = pathlib.Path(__file__).parents[2] / "configs"
EXPERIMENTS = [path.stem for path in sorted(FOLDER.glob("*.py")) if path.stem not in (*configs.NOT_EXPERIMENTS, "base")]


def _module(name):
    return importlib.import_module(f"convzoo.configs.{name}")


def _get_config(name, variant):
    return _module(name).get_config(variant)


def _differences(first, second):
    """Returns the dotted names of the differing fields; `overrides` and `operator` count as one field each."""

    def flatten(tree, prefix=""):
        for name, value in tree.items():
            if isinstance(value, dict) and name not in ("overrides", "operator"):
                yield from flatten(value, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", value

    first, second = dict(flatten(first.to_dict())), dict(flatten(second.to_dict()))
    return {name for name in first if first[name] != second[name]}


@functools.cache
def _output_shape(name, size, arguments):
    """Returns the output shape of a network with ten classes; variants with the same network share the result."""
    return models.create_model(name, 10, (size, size, 3), **json.loads(arguments)).output_shape


@pytest.mark.parametrize(
    ("name", "variant"),
    [(name, variant) for name in EXPERIMENTS for variant in ("", *_module(name).get_config.variants)],
)
def test_experiment_is_valid_and_builds(name, variant):
    config = _get_config(name, variant)
    assert config.is_locked
    assert config.model.overrides.is_locked
    schema.validate(config, num_replicas=8)
    augmentation(config).check(get_task(config).label_kind)
    assert set(config) == set(base.get_config())
    size = config.model.image_size or models.info(config.model.name).input_size
    assert _output_shape(config.model.name, size, json.dumps(model_arguments(config))) == (None, 10)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_docstring_has_the_command(name):
    assert f"python train.py --config=configs/{name}.py" in _module(name).__doc__


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_unknown_variant_names_the_file_and_the_known_variants(name):
    with pytest.raises(ConfigError, match="no_such_variant") as caught:
        _get_config(name, "no_such_variant")
    assert f"configs/{name}.py" in str(caught.value)
    for variant in _module(name).get_config.variants:
        assert variant in str(caught.value)


def test_variants_decorator():
    @variants("a", "b", default="b")
    def get_config(variant):
        config = base.get_config()
        config.model.overrides = {"chosen": variant}
        return config

    assert get_config.variants == ("a", "b")
    assert [get_config(*arguments).model.overrides.chosen for arguments in ((), ("",), ("a",))] == ["b", "b", "a"]
    with pytest.raises(ConfigError, match="'c'"):
        get_config("c")
    with pytest.raises(AttributeError):
        get_config().model.overrides.new = 1


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_do_not_share_state(name):
    config = _get_config(name, "")
    config.batch_size, config.data.source = 8, "fake"
    assert _get_config(name, "").batch_size != 8
    assert _get_config(name, "").data.source != "fake"


@pytest.mark.parametrize(
    ("name", "compared"),
    [
        ("condconv_imagenet", {"mobilenet_v1_x1_0": "mobilenet_v1_condconv_x1_0", "mnasnet_a1": "mnasnet_a1_condconv"}),
        ("efficientnet_condconv_imagenet", {"b0": "b0_8e", "b0_4e": "b0_8e"}),
        ("fashion_mnist", dict.fromkeys(_module("fashion_mnist").get_config.variants, "mobilenet_v1")),
        ("lean_resnet_imagenet", dict.fromkeys(lean_resnet_imagenet.get_config.variants, "resnet18")),
        ("lean_resnet_cifar", {"lean_resnet18": "resnet18", "lean_resnet18_cifar100": "resnet18_cifar100"}),
        ("lean_segmentation", {"": "resnet18_cifar", "pets": "pets_resnet34"}),
        ("seesaw_ratio_sweep", dict.fromkeys(_module("seesaw_ratio_sweep").get_config.variants, "r1_1")),
        ("seesawnet_imagenet", dict.fromkeys(seesawnet_imagenet.NETWORKS, "mobilenet_v2")),
        ("seesawnet_cifar", dict.fromkeys(seesawnet_imagenet.NETWORKS, "mobilenet_v2")),
        ("shufflenet_v2_drconv_imagenet", dict.fromkeys(("drconv_x0_5", "x2_0", "drconv_x2_0"), "x0_5")),
    ],
)
def test_compared_variants_share_the_recipe(name, compared):
    # The paper's augmentation of the conditional networks is stronger.
    stronger = {"data.auto_augment", "data.mixup"} if "condconv" in name else set()
    for first, second in compared.items():
        differences = _differences(_get_config(name, first), _get_config(name, second))
        assert differences <= {"model.name", "model.operator", "model.overrides", *stronger}, (first, second)


@pytest.mark.parametrize(
    ("name", "first", "second", "differences"),
    [
        ("seesawnet_cifar", "igcv3_1_0d", "igcv3_1_0d_cifar100", {"data.source", "data.mean", "data.std"}),
        (
            "seesawnet_cifar",
            "igcv3_1_0d",
            "igcv3_1_0d_per_epoch",
            {"schedule.name", "schedule.milestones", "schedule.decay_epochs", "schedule.decay_rate"},
        ),
        ("lean_resnet_cifar", "resnet18", "resnet18_cifar100", {"data.source", "data.mean", "data.std"}),
        ("condconv_imagenet", "mobilenet_v1_x0_25", "mobilenet_v1_x1_0", {"model.name", "data.crop_area"}),
        ("condconv_imagenet", "mnasnet_a1_condconv", "mnasnet_a1",
         {"model.name", "model.operator", "data.auto_augment", "data.mixup"}),
        ("condconv_imagenet", "mobilenet_v1_condconv_x0_25_32e_single", "mobilenet_v1_condconv_x0_25_32e_softmax",
         {"model.operator"}),
        ("seesawnet_imagenet", "mobilenet_v2_own", "mobilenet_v2",
         {"model.overrides", "weight_decay_on", "optimizer.name", "optimizer.epsilon", "optimizer.nesterov"}),
        ("efficientnet_condconv_imagenet", "b0_8e_depth", "b0_8e_depth_240",
         {"model.image_size", "data.crop_fraction"}),
        ("mobilenet_drconv_imagenet", "v2_drconv_x1_0", "v2_x1_0", {"model.name", "model.operator"}),
        ("lean_resnet_cifar", "resnet18", "resnet18_stl10",
         {"model.image_size", "data.source", "data.mean", "data.std", "data.crop_padding", "steps_per_loop"}),
        ("efficientnet_condconv_imagenet", "b0", "b0_8e", {"model.name", "model.operator", "data.mixup"}),
        ("seesaw_ratio_sweep", "r1_1", "r1_3", {"model.operator"}),
    ],
)  # fmt: skip
def test_variants_differ_exactly(name, first, second, differences):
    assert _differences(_get_config(name, first), _get_config(name, second)) == differences


@pytest.mark.parametrize("name", ["digits", "fashion_mnist"])
def test_fine_tuning_and_its_comparison_differ_only_in_the_initialization(name):
    tuned, scratch = (_get_config("fine_tune", name + suffix) for suffix in ("", "_from_scratch"))
    differences = _differences(tuned, scratch) - {"optimizer.learning_rate"}
    assert differences
    assert all(field.startswith("init.") for field in differences)
    assert scratch.init == base.get_config().init
    # The backbone has the same learning rate in both.
    assert tuned.optimizer.learning_rate * tuned.init.backbone_lr_multiplier == pytest.approx(
        scratch.optimizer.learning_rate
    )


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name.endswith("_imagenet")])
def test_settings_of_the_operator_exist_for_the_command_line_only_where_the_network_has_them(name):
    for variant in _module(name).get_config.variants:
        config = _get_config(name, variant)
        assert ("regions" in config.model.operator) == ("drconv" in config.model.name)
        assert ("num_experts" in config.model.operator) == ("condconv" in config.model.name)
        assert ("stencil" in config.model.operator) == config.model.name.startswith("lean")
