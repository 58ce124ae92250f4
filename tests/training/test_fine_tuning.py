"""Fine-tuning: initial weights, frozen layers, learning-rate multipliers, invalid settings."""

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import tiny

from convzoo import models
from convzoo.errors import ConfigError, ModelError
from convzoo.tasks import get_task
from convzoo.training import checkpoints, fine_tuning
from convzoo.training.checkpoint_manager import CheckpointManager
from convzoo.training.checkpoints import find_checkpoint
from convzoo.training.devices import connect
from convzoo.training.evaluation import CheckpointEvaluator
from convzoo.training.experiment import build_model
from convzoo.training.fine_tuning import Initialization, find_initialization, is_classifier
from convzoo.training.loop import train
from convzoo.training.optimizers import make_optimizer
from convzoo.training.schedules import WarmUp
from convzoo.training.state import TrainState, build_train_state
from convzoo.training.train_step import train_step
from convzoo.training.workdir import load_config, save_or_verify_config

NAME = "efficientnet_condconv_b0_4e"
FREEZE = ("stem_*", "block[01]_*")


@pytest.fixture(scope="module")
def devices():
    return connect(devices="cpu")


@pytest.fixture(scope="module")
def source(tmp_path_factory, devices):
    """Workdir of a finished run on four classes; its best checkpoint is older than its newest."""
    workdir = str(tmp_path_factory.mktemp("source") / "run")
    config = tiny.get_config()
    config.epochs = 2.0
    train(config, workdir, devices, evaluate=False)
    saved = find_checkpoint(workdir, "newest")
    older = find_checkpoint(workdir, f"{workdir}/checkpoints/ckpt-9")
    assert saved != older
    assert checkpoints.copy_if_best(workdir, older, 9, "top1", 0.5)
    return workdir


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    """A weights file of a network with other overrides than the published and the tiny network."""
    keras.utils.set_random_seed(5)
    overrides = {**tiny.OVERRIDES, "operator": {**tiny.OPERATOR, "num_experts": 3}, "bn_momentum": 0.5}
    model = models.create_model(NAME, 4, (16, 16, 3), **overrides)
    path = str(tmp_path_factory.mktemp("weights") / "tiny.weights.h5")
    models.save_weights(model, path, overrides, "a test")
    return path


def _config(weights, classes=6, **fields):
    config = tiny.get_config()
    config.data.source = f"fake:classes={classes},size=16,examples=128"
    config.init.weights = weights
    config.update_from_flattened_dict(fields)
    return config


def _values(path, prefix):
    """Returns the variables of a checkpoint under `prefix`, by the rest of their names."""
    reader = tf.train.load_checkpoint(path)
    start = f"variables/{prefix}.S"
    return {
        key.removeprefix(start).removesuffix("/.ATTRIBUTES/VARIABLE_VALUE").replace(".S", "/"): reader.get_tensor(key)
        for key in reader.get_variable_to_shape_map()
        if key.startswith(start)
    }


def _is_frozen(path):
    return path.startswith(("stem_", "block0_", "block1_"))


# Learning rates


@pytest.mark.parametrize("name", ["sgd", "rmsprop"])
def test_learning_rate_multiplier_against_the_formulas(name):
    config = tiny.get_config()
    config.optimizer.name = name
    rates = WarmUp(keras.optimizers.schedules.PiecewiseConstantDecay([3], [0.1, 0.05]), 0.1, 2)
    rng = np.random.default_rng(0)
    backbone, classifier = (
        keras.Variable(rng.normal(size=(3, 2)).astype("float32"), name=part) for part in ("backbone", "classifier")
    )
    optimizer = make_optimizer(config, rates)
    optimizer.build([backbone, classifier])
    optimizer.scale_learning_rate([backbone], 0.3)
    expected = [backbone.numpy().astype("float64"), classifier.numpy().astype("float64")]
    momentum, mean_square = [0.0, 0.0], [1.0, 1.0]
    for step, rate in enumerate((0.0, 0.05, 0.1, 0.1, 0.05, 0.05)):
        gradients = rng.normal(size=(2, 3, 2)).astype("float32")
        optimizer.apply([tf.constant(gradient) for gradient in gradients], [backbone, classifier])
        for index, factor in enumerate((0.3, 1.0)):
            gradient, scaled_rate = gradients[index].astype("float64"), rate * factor
            if name == "sgd":
                momentum[index] = 0.9 * momentum[index] - scaled_rate * gradient
                expected[index] = expected[index] + 0.9 * momentum[index] - scaled_rate * gradient
            else:
                mean_square[index] = 0.9 * mean_square[index] + 0.1 * gradient**2
                momentum[index] = 0.9 * momentum[index] + scaled_rate * gradient / np.sqrt(mean_square[index] + 1e-3)
                expected[index] = expected[index] - momentum[index]
        for variable, value in zip((backbone, classifier), expected, strict=True):
            np.testing.assert_allclose(variable.numpy(), value, rtol=1e-5, atol=1e-6, err_msg=str(step))
    assert all(np.abs(part).max() > 0.01 for part in momentum)


def test_learning_rate_multipliers_by_name():
    config = tiny.get_config()
    config.optimizer.lr_multipliers = (("block*_routing/*", 0.5), ("*/bias", 0.25))
    config.init.backbone_lr_multiplier = 0.125
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [1.0, 1.0])
    config.optimizer.name, config.optimizer.momentum, config.optimizer.nesterov = "sgd", 0.0, False
    state = build_train_state(config, 4, schedule)
    weights = state.model.trainable_weights
    before = [weight.numpy() for weight in weights]
    state.optimizer.apply([tf.ones(weight.shape) for weight in weights], weights)
    for weight, old in zip(weights, before, strict=True):
        expected = 0.5 if "_routing/" in weight.path and weight.path.startswith("block") else 1.0
        expected *= 0.25 if weight.path.endswith("/bias") else 1.0
        expected *= 1.0 if weight.path.startswith(models.weights.CLASSIFIER) else 0.125
        np.testing.assert_allclose(old - weight.numpy(), expected, atol=1e-5, err_msg=weight.path)


def test_a_learning_rate_multiplier_without_weights():
    config = tiny.get_config()
    config.optimizer.lr_multipliers = (("block*_rooting/*", 0.5),)
    with pytest.raises(ConfigError, match=r"lr_multipliers: 'block\*_rooting/\*' matches no .*block2_routing"):
        build_train_state(config, 4, keras.optimizers.schedules.PiecewiseConstantDecay([0], [1.0, 1.0]))


@pytest.mark.parametrize(("name", "precision"), [("sgd", "float32"), ("rmsprop", "mixed_bfloat16")])
def test_train_step_scales_the_change_of_the_backbone(name, precision):
    """Weight decay, accumulation and clipping come between the gradient and the learning rate."""
    rng = np.random.default_rng(1)
    batch = {
        "image": tf.constant(rng.normal(size=(8, 16, 16, 3)).astype("float32")),
        "label": tf.constant(rng.integers(0, 4, 8), tf.int32),
    }
    changes = []
    for factor in (1.0, 0.125):
        config = tiny.get_config()
        config.precision, config.optimizer.name = precision, name
        config.model.overrides.update({"dropout_rate": 0.0, "survival_prob": 1.0})
        keras.utils.set_random_seed(2)
        model = build_model(config, 4)
        before = [weight.numpy() for weight in model.trainable_weights]
        optimizer = make_optimizer(config, keras.optimizers.schedules.PiecewiseConstantDecay([0], [0.5, 0.5]))
        optimizer.build(model.trainable_weights)
        optimizer.scale_learning_rate(
            [weight for weight in model.trainable_weights if not is_classifier(weight)], factor
        )
        settings = {"weight_decay": 0.1, "accumulation_steps": 2, "clip_norm": 0.5}
        train_step(TrainState(model, optimizer), batch, task=get_task(config), batch_size=8, **settings)
        changes.append(
            {weight.path: weight.numpy() - old for weight, old in zip(model.trainable_weights, before, strict=True)}
        )
    full, slow = changes
    assert {path.split("/")[0] for path in full if path.startswith(models.weights.CLASSIFIER)} == {"head_dense"}
    for path in full:
        want = full[path] * (1.0 if path.startswith("head_dense") else 0.125)
        assert np.abs(full[path]).max() > 0, path
        np.testing.assert_allclose(slow[path], want, rtol=1e-3, atol=1e-6, err_msg=path)


# Complete runs


@pytest.fixture(scope="module")
def tuned(source, tmp_path_factory, devices):
    """Workdir of a run on six classes that starts from the run on four."""
    workdir = str(tmp_path_factory.mktemp("tuned") / "run")
    config = _config(source, **{"init.freeze": FREEZE, "init.backbone_lr_multiplier": 0.1})
    with config.unlocked():
        del config.model.operator["num_experts"]  # comes from the run on four
    train(config, workdir, devices)
    return workdir


def test_frozen_layers_keep_weights_and_statistics(source, tuned):
    origin = _values(f"{source}/best/ckpt-9", "ema")
    for kind in ("model", "ema"):
        ended = _values(f"{tuned}/checkpoints/ckpt-24", kind)
        assert {path for path in origin if _is_frozen(path)} >= {"stem_bn/moving_variance", "block1_expand_bn/gamma"}
        for path, value in ended.items():
            if path.endswith("seed_generator"):
                continue
            if _is_frozen(path):
                np.testing.assert_array_equal(value, origin[path], err_msg=f"{kind}/{path}")
            elif not path.startswith("head_dense"):
                assert not np.array_equal(value, origin[path]), f"{kind}/{path}"


def test_frozen_layers_have_no_optimizer_slots(tuned):
    slots = _values(f"{tuned}/checkpoints/ckpt-24", "optimizer")
    assert any(name.startswith("block2_") for name in slots)
    assert not [name for name in slots if _is_frozen(name)]


def test_run_logs_and_saves_its_initialization(source, tuned, devices, tmp_path, capsys):
    config = _config(source, **{"init.freeze": FREEZE, "init.backbone_lr_multiplier": 0.1, "epochs": 0.5})
    with config.unlocked():
        del config.model.operator["num_experts"]
    train(config, str(tmp_path), devices, evaluate=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("starting at step 0")
    frozen = [name for name in _layers() if _is_frozen(name)]
    loaded = len([path for path in _values(f"{source}/best/ckpt-9", "ema") if not path.startswith("head_dense")])
    assert f"loaded {loaded} weights from {source}/best/ckpt-9 (step 9, ema weights)" in lines[1]
    assert lines[1].endswith("head_dense/kernel, head_dense/bias")
    assert lines[2].endswith(f"; frozen: {', '.join(frozen[:6])} and {len(frozen) - 6} more")
    assert "0.1 of the learning rate" in lines[2]
    assert lines[3].endswith(": operator.num_experts")
    assert json.loads((tmp_path / "config.json").read_text())["initialization"] == {
        "weights": f"{source}/best/ckpt-9",
        "overrides": {"operator": {"num_experts": 2}},
    }


def _layers():
    return [layer.name for layer in build_model(tiny.get_config(), 4).layers if layer.weights]


def test_moving_average_starts_at_the_loaded_weights(source, devices, tmp_path):
    # One step of the warm-up, at learning rate 0.
    config = _config(source, **{"epochs": 0.125, "schedule.warmup_epochs": 0.125})
    train(config, str(tmp_path), devices, evaluate=False)
    origin, average = (
        _values(path, "ema") for path in (f"{source}/best/ckpt-9", find_checkpoint(str(tmp_path), "newest"))
    )
    learned = [path for path in origin if "/moving_" not in path and not path.startswith("head_dense")]
    for path in learned:
        np.testing.assert_array_equal(average[path], origin[path], err_msg=path)


def test_run_resumes_and_evaluates_without_its_initial_weights(weights_file, devices, tmp_path, capsys):
    """Compares an uninterrupted run with one resumed from the middle after the weights file was deleted."""
    path = str(tmp_path / "moved.weights.h5")
    shutil.copy(weights_file, path)
    fields = {"init.freeze": FREEZE, "init.backbone_lr_multiplier": 0.1}

    def config():
        config = _config(path, **fields)
        with config.unlocked():
            del config.model.operator["num_experts"]
        return config

    uninterrupted, resumed = tmp_path / "uninterrupted", tmp_path / "resumed"
    train(config(), str(uninterrupted), devices)
    (resumed / "checkpoints").mkdir(parents=True)
    shutil.copy(uninterrupted / "config.json", resumed)
    for name in ("ckpt-18.index", "ckpt-18.data-00000-of-00001"):
        shutil.copy(uninterrupted / "checkpoints" / name, resumed / "checkpoints")
    (resumed / "checkpoints" / "checkpoint").write_text(
        'model_checkpoint_path: "ckpt-18"\nall_model_checkpoint_paths: "ckpt-18"\n'
    )
    (tmp_path / "moved.weights.h5").unlink()
    capsys.readouterr()
    train(config(), str(resumed), devices)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(f"resuming from {resumed}/checkpoints/ckpt-18, step 18")
    assert "frozen: stem_conv, stem_bn" in lines[1]
    for kind in ("model", "ema", "optimizer"):
        one, other = (_values(f"{folder}/checkpoints/ckpt-24", kind) for folder in (uninterrupted, resumed))
        assert set(one) == set(other)
        for name in one:
            np.testing.assert_allclose(other[name], one[name], rtol=1e-4, atol=1e-5, err_msg=f"{kind}/{name}")

    saved = load_config(str(resumed))
    assert (saved.model.operator.num_experts, saved.model.overrides.bn_momentum) == (3, 0.5)
    result = CheckpointEvaluator(saved, str(resumed), devices).evaluate(find_checkpoint(str(resumed), "newest"))
    assert result["examples"] == 50
    fields["init.backbone_lr_multiplier"] = 0.2
    with pytest.raises(ConfigError, match=r"init\.backbone_lr_multiplier is 0\.1 .* 0\.2"):
        train(config(), str(resumed), devices)
    # A new run needs the file.
    with pytest.raises(ModelError, match=r"moved\.weights\.h5"):
        train(config(), str(tmp_path / "new"), devices)
    assert not (tmp_path / "new").exists()


# Loaded weights


@pytest.mark.parametrize("kind", ["run", "checkpoint", "file"])
def test_classifier_is_loaded_if_the_classes_match(kind, source, weights_file):
    weights = {"run": source, "checkpoint": f"{source}/checkpoints/ckpt-16.index", "file": weights_file}[kind]
    config = _config(weights)
    with config.unlocked():
        config.model.operator.num_experts = 3 if kind == "file" else 2
    initialization = find_initialization(config)
    assert initialization.path == {"run": f"{source}/best/ckpt-9", "checkpoint": f"{source}/checkpoints/ckpt-16"}.get(
        kind, weights
    )
    if kind == "file":
        origin = models.create_model(NAME, input_shape=(16, 16, 3), weights=weights)
        origin = {weight.path: weight.numpy() for weight in origin.weights}
    else:
        origin = _values(initialization.path, "ema")
    for classes, new_classifier in ((4, False), (4, True), (6, False)):
        keras.utils.set_random_seed(7)
        fresh = build_model(config, classes)
        keras.utils.set_random_seed(7)
        model = build_model(config, classes)
        message = fine_tuning.load(initialization, model, classes, new_classifier)
        is_new = new_classifier or classes != 4
        assert message.endswith("head_dense/kernel, head_dense/bias") == is_new
        for weight, first in zip(model.weights, fresh.weights, strict=True):
            expected = first.numpy() if is_new and is_classifier(weight) else origin[weight.path]
            np.testing.assert_array_equal(weight.numpy(), expected, err_msg=weight.path)


def test_raw_weights_are_loaded_without_a_moving_average(devices, tmp_path):
    config = tiny.get_config()
    config.ema_decay = None
    config.epochs, config.schedule.warmup_epochs = 0.25, 0.0
    train(config, str(tmp_path), devices, evaluate=False)
    initialization = find_initialization(_config(str(tmp_path)))
    model = build_model(config, 4)
    assert "(step 2, raw weights)" in fine_tuning.load(initialization, model, 4, False)
    origin = _values(initialization.path, "model")
    for weight in model.weights:
        np.testing.assert_array_equal(weight.numpy(), origin[weight.path], err_msg=weight.path)


def test_overrides_of_the_config_win_over_saved_ones(source):
    config = _config(source, **{"model.overrides.survival_prob": 0.9})
    with config.unlocked():
        del config.model.overrides["blocks"]
    resolved, added = fine_tuning.with_overrides(config, find_initialization(config).overrides)
    assert added == {"blocks": tiny.BLOCKS}
    assert resolved.model.overrides.survival_prob == 0.9
    assert "blocks" not in config.model.overrides
    assert resolved.is_locked


@pytest.mark.parametrize("kind", ["checkpoint", "file"])
def test_new_conditional_classifier_includes_its_routing(kind, tmp_path):
    def build(classes):
        return models.create_model("mobilenet_v1_condconv_x0_25", classes, (16, 16, 3), operator={"num_experts": 2})

    origin, model = build(4), build(6)
    if kind == "file":
        path = str(tmp_path / "a.weights.h5")
        models.save_weights(origin, path, {"operator": {"num_experts": 2}})
    else:
        state = checkpoints.prefixed("model", checkpoints.model_variables(origin))
        state["optimizer/iteration"] = tf.Variable(3, dtype=tf.int32)
        manager = CheckpointManager(str(tmp_path), state, keep=1)
        manager.save(3)
        manager.close()
        path = checkpoints.newest(str(tmp_path))
    first = {weight.path: weight.numpy() for weight in model.weights}
    message = fine_tuning.load(Initialization(path, {}, 4 if kind == "file" else None), model, 6, False)
    classifier = [weight.path for weight in model.weights if is_classifier(weight)]
    assert {path.split("/")[0] for path in classifier} == {"head_dense", "head_dense_routing"}
    assert message.endswith(", ".join(classifier))
    for one, other in zip(model.weights, origin.weights, strict=True):
        expected = first[one.path] if is_classifier(one) else other.numpy()
        np.testing.assert_array_equal(one.numpy(), expected, err_msg=one.path)


# Invalid settings


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"init.backbone_lr_multiplier": 0.0}, r"config\.init\.backbone_lr_multiplier=0\.0"),
        ({"init.backbone_lr_multiplier": -1.0}, r"config\.init\.backbone_lr_multiplier=-1\.0"),
        ({"init.freeze": (1,)}, r"config\.init\.freeze"),
        ({"init.freeze": ("stem_*", "blok1_*")}, r"'blok1_\*' .* block1_"),
        ({"init.freeze": ("stem_swish",)}, "'stem_swish'"),
        ({"init.freeze": ("*",)}, r"config\.init\.freeze=\('\*',\)"),
        ({"init.weights": "/nowhere"}, "'/nowhere'"),
        ({"init.weights": "/nowhere.weights.h5"}, "/nowhere.weights.h5"),
        ({"init.weights": "FOLDER"}, "folder'"),
        ({"init.weights": "FOLDER/text.weights.h5"}, "text.weights.h5"),
        ({"init.weights": "FOLDER/empty"}, "empty'"),
        ({"model.name": "efficientnet_b0"}, "'efficientnet_condconv_b0_4e' .* 'efficientnet_b0'"),
        (
            {"model.operator.num_experts": 3},
            r"ema/block2_routing/kernel has shape \[\d+, 2\] .* \[\d+, 3\]",
        ),
        ({"init.weights": "FILE"}, r"tiny\.weights\.h5' .*'efficientnet_condconv_b0_4e'"),
    ],
)
def test_invalid_settings_give_one_line_and_write_nothing(fields, message, source, weights_file, devices, tmp_path):
    folder = tmp_path / "folder"
    (folder / "empty").mkdir(parents=True)
    (folder / "text.weights.h5").write_text("no weights")
    save_or_verify_config(tiny.get_config(), str(folder / "empty"))
    config = _config(source)
    fields = {
        name: value.replace("FOLDER", str(folder)).replace("FILE", weights_file) if isinstance(value, str) else value
        for name, value in fields.items()
    }
    config.update_from_flattened_dict(fields)
    with pytest.raises(ValueError, match=message) as caught:
        train(config, str(tmp_path / "run"), devices)
    assert isinstance(caught.value, (ConfigError, ModelError))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_checkpoint_outside_a_run_has_no_overrides(source, tmp_path):
    for name in ("ckpt-16.index", "ckpt-16.data-00000-of-00001"):
        shutil.copy(f"{source}/checkpoints/{name}", tmp_path)
    assert find_initialization(_config(str(tmp_path / "ckpt-16"))) == Initialization(str(tmp_path / "ckpt-16"), {})
