"""Fine-tuning: what is loaded, what stays frozen, how fast the rest learns, and what is refused."""

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import tiny

from convzoo import models
from convzoo.training import checkpoints, fine_tuning
from convzoo.training import config as experiment_config
from convzoo.training.assessment import Assessor, find_checkpoint
from convzoo.training.config import ConfigError
from convzoo.training.devices import connect
from convzoo.training.experiment import build_model
from convzoo.training.fine_tuning import Start, find_start, is_head
from convzoo.training.loop import train
from convzoo.training.optimizers import WarmUp, make_optimizer
from convzoo.training.step import TrainStep

NAME = "efficientnet_condconv_b0_4e"
FREEZE = ("stem_*", "block[01]_*")


@pytest.fixture(scope="module")
def devices():
    return connect(devices="cpu")


@pytest.fixture(scope="module")
def source(tmp_path_factory, devices):
    """A finished run on four classes, whose best checkpoint and newest one differ."""
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
    """A file of weights whose network is not quite the published one, nor quite the tiny one."""
    keras.utils.set_random_seed(5)
    overrides = {**tiny.OVERRIDES, "num_experts": 3, "bn_momentum": 0.5}
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
    """Variables of a checkpoint under `prefix`, by what follows it."""
    reader = tf.train.load_checkpoint(path)
    start = f"variables/{prefix}.S"
    return {
        key.removeprefix(start).removesuffix("/.ATTRIBUTES/VARIABLE_VALUE").replace(".S", "/"): reader.get_tensor(key)
        for key in reader.get_variable_to_shape_map()
        if key.startswith(start)
    }


def _is_frozen(path):
    return path.startswith(("stem_", "block0_", "block1_"))


# The rates


@pytest.mark.parametrize("name", ["sgd", "rmsprop"])
def test_a_factor_on_the_rate_against_the_formulas(name):
    config = tiny.get_config()
    config.optimizer.name = name
    rates = WarmUp(keras.optimizers.schedules.PiecewiseConstantDecay([3], [0.1, 0.05]), 0.1, 2)
    draw = np.random.default_rng(0)
    body, head = (keras.Variable(draw.normal(size=(3, 2)).astype("float32"), name=part) for part in ("body", "head"))
    optimizer = make_optimizer(config, rates)
    optimizer.build([body, head])
    optimizer.scale_rate([body], 0.3)
    want = [body.numpy().astype("float64"), head.numpy().astype("float64")]
    momentum, mean_square = [0.0, 0.0], [1.0, 1.0]
    for step, rate in enumerate((0.0, 0.05, 0.1, 0.1, 0.05, 0.05)):
        gradients = draw.normal(size=(2, 3, 2)).astype("float32")
        optimizer.apply([tf.constant(gradient) for gradient in gradients], [body, head])
        for index, factor in enumerate((0.3, 1.0)):
            gradient, rate_here = gradients[index].astype("float64"), rate * factor
            if name == "sgd":
                momentum[index] = 0.9 * momentum[index] - rate_here * gradient
                want[index] = want[index] + 0.9 * momentum[index] - rate_here * gradient
            else:
                mean_square[index] = 0.9 * mean_square[index] + 0.1 * gradient**2
                momentum[index] = 0.9 * momentum[index] + rate_here * gradient / np.sqrt(mean_square[index] + 1e-3)
                want[index] = want[index] - momentum[index]
        for variable, value in zip((body, head), want, strict=True):
            np.testing.assert_allclose(variable.numpy(), value, rtol=1e-5, atol=1e-6, err_msg=str(step))
    assert all(np.abs(part).max() > 0.01 for part in momentum)


@pytest.mark.parametrize(("name", "precision"), [("sgd", "float32"), ("rmsprop", "mixed_bfloat16")])
def test_a_step_moves_the_body_by_the_factor_and_the_head_in_full(name, precision):
    """With everything in between that could come between gradient and rate."""
    draw = np.random.default_rng(1)
    batch = {
        "image": tf.constant(draw.normal(size=(8, 16, 16, 3)).astype("float32")),
        "label": tf.constant(draw.integers(0, 4, 8), tf.int32),
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
        optimizer.scale_rate([weight for weight in model.trainable_weights if not is_head(weight)], factor)
        TrainStep(model, optimizer, batch_size=8, weight_decay=0.1, parts=2, clip_norm=0.5)(batch)
        changes.append(
            {weight.path: weight.numpy() - old for weight, old in zip(model.trainable_weights, before, strict=True)}
        )
    full, slow = changes
    assert {path.split("/")[0] for path in full if path.startswith(models.weights.HEAD)} == {"head_dense"}
    for path in full:
        want = full[path] * (1.0 if path.startswith("head_dense") else 0.125)
        assert np.abs(full[path]).max() > 0, path
        np.testing.assert_allclose(slow[path], want, rtol=1e-3, atol=1e-6, err_msg=path)


# Whole runs


@pytest.fixture(scope="module")
def tuned(source, tmp_path_factory, devices):
    """A run on six classes from the run on four."""
    workdir = str(tmp_path_factory.mktemp("tuned") / "run")
    config = _config(source, **{"init.freeze": FREEZE, "init.body_rate": 0.1})
    with config.unlocked():
        del config.model.overrides["num_experts"]  # taken over from the run on four
    train(config, workdir, devices)
    return workdir


def test_frozen_layers_keep_weights_and_statistics_to_the_bit(source, tuned):
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


def test_frozen_layers_have_no_slots(tuned):
    slots = _values(f"{tuned}/checkpoints/ckpt-24", "optimizer")
    assert any(name.startswith("block2_") for name in slots)
    assert not [name for name in slots if _is_frozen(name)]


def test_a_run_tells_what_it_starts_from(source, tuned, devices, tmp_path, capsys):
    config = _config(source, **{"init.freeze": FREEZE, "init.body_rate": 0.1, "epochs": 0.5})
    with config.unlocked():
        del config.model.overrides["num_experts"]
    train(config, str(tmp_path), devices, evaluate=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("starting at step 0")
    frozen = [name for name in _layers() if _is_frozen(name)]
    body = len([path for path in _values(f"{source}/best/ckpt-9", "ema") if not path.startswith("head_dense")])
    assert lines[1] == (
        f"loaded {body} weights from {source}/best/ckpt-9 (step 9, ema weights); head_dense/kernel, head_dense/bias "
        "started anew; taken over to config.model.overrides: num_experts"
    )
    assert lines[2].endswith(f"; frozen: {', '.join(frozen[:6])} and {len(frozen) - 6} more")
    assert "parameters are trained, those outside head_dense at 0.1 of the learning rate" in lines[2]
    assert json.loads((tmp_path / "config.json").read_text())["start"] == {
        "weights": f"{source}/best/ckpt-9",
        "overrides": {"num_experts": 2},
    }


def _layers():
    return [layer.name for layer in build_model(tiny.get_config(), 4).layers if layer.weights]


def test_the_average_starts_at_the_loaded_weights(source, devices, tmp_path):
    # One step at rate 0, the first of the warm-up.
    config = _config(source, **{"epochs": 0.125, "schedule.warmup_epochs": 0.125})
    train(config, str(tmp_path), devices, evaluate=False)
    origin, average = (
        _values(path, "ema") for path in (f"{source}/best/ckpt-9", find_checkpoint(str(tmp_path), "newest"))
    )
    learned = [path for path in origin if "/moving_" not in path and not path.startswith("head_dense")]
    for path in learned:
        np.testing.assert_array_equal(average[path], origin[path], err_msg=path)


def test_a_tuned_run_goes_on_and_is_evaluated_without_what_it_started_from(weights_file, devices, tmp_path, capsys):
    """Straight to the end, and once more from the middle, with the file of weights gone."""
    path = str(tmp_path / "moved.weights.h5")
    shutil.copy(weights_file, path)
    fields = {"init.freeze": FREEZE, "init.body_rate": 0.1}

    def config():
        config = _config(path, **fields)
        with config.unlocked():
            del config.model.overrides["num_experts"]
        return config

    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    train(config(), str(straight), devices)
    (resumed / "checkpoints").mkdir(parents=True)
    shutil.copy(straight / "config.json", resumed)
    for name in ("ckpt-18.index", "ckpt-18.data-00000-of-00001"):
        shutil.copy(straight / "checkpoints" / name, resumed / "checkpoints")
    (resumed / "checkpoints" / "checkpoint").write_text(
        'model_checkpoint_path: "ckpt-18"\nall_model_checkpoint_paths: "ckpt-18"\n'
    )
    (tmp_path / "moved.weights.h5").unlink()
    capsys.readouterr()
    train(config(), str(resumed), devices)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(f"going on from {resumed}/checkpoints/ckpt-18, step 18")
    assert "frozen: stem_conv, stem_bn" in lines[1]
    for kind in ("model", "ema", "optimizer"):
        one, other = (_values(f"{folder}/checkpoints/ckpt-24", kind) for folder in (straight, resumed))
        assert set(one) == set(other)
        for name in one:
            np.testing.assert_allclose(other[name], one[name], rtol=1e-4, atol=1e-5, err_msg=f"{kind}/{name}")

    saved = experiment_config.load(str(resumed))
    assert (saved.model.overrides.num_experts, saved.model.overrides.bn_momentum) == (3, 0.5)
    record = Assessor(saved, str(resumed), devices).assess(find_checkpoint(str(resumed), "newest"))
    assert record["examples"] == 50
    fields["init.body_rate"] = 0.2
    with pytest.raises(ConfigError, match=r"init.body_rate is 0.1 there and 0.2 here"):
        train(config(), str(resumed), devices)
    # A run of its own needs the file.
    with pytest.raises(models.ModelError, match="are not there"):
        train(config(), str(tmp_path / "new"), devices)
    assert not (tmp_path / "new").exists()


# What is loaded


@pytest.mark.parametrize("kind", ["run", "checkpoint", "file"])
def test_a_head_of_as_many_classes_is_loaded_unless_a_new_one_is_asked_for(kind, source, weights_file):
    weights = {"run": source, "checkpoint": f"{source}/checkpoints/ckpt-16.index", "file": weights_file}[kind]
    config = _config(weights)
    with config.unlocked():
        config.model.overrides.num_experts = 3 if kind == "file" else 2
    start = find_start(config)
    assert start.path == {"run": f"{source}/best/ckpt-9", "checkpoint": f"{source}/checkpoints/ckpt-16"}.get(
        kind, weights
    )
    if kind == "file":
        origin = models.create_model(NAME, input_shape=(16, 16, 3), weights=weights)
        origin = {weight.path: weight.numpy() for weight in origin.weights}
    else:
        origin = _values(start.path, "ema")
    for classes, new_head in ((4, False), (4, True), (6, False)):
        keras.utils.set_random_seed(7)
        fresh = build_model(config, classes)
        keras.utils.set_random_seed(7)
        model = build_model(config, classes)
        told = fine_tuning.load(start, model, classes, new_head)
        anew = new_head or classes != 4
        assert ("head_dense/kernel, head_dense/bias started anew" in told) == anew
        for weight, first in zip(model.weights, fresh.weights, strict=True):
            want = first.numpy() if anew and is_head(weight) else origin[weight.path]
            np.testing.assert_array_equal(weight.numpy(), want, err_msg=weight.path)


def test_the_raw_weights_where_no_average_is_kept(devices, tmp_path):
    config = tiny.get_config()
    config.ema_decay = None
    config.epochs, config.schedule.warmup_epochs = 0.25, 0.0
    train(config, str(tmp_path), devices, evaluate=False)
    start = find_start(_config(str(tmp_path)))
    model = build_model(config, 4)
    assert "(step 2, raw weights)" in fine_tuning.load(start, model, 4, False)
    origin = _values(start.path, "model")
    for weight in model.weights:
        np.testing.assert_array_equal(weight.numpy(), origin[weight.path], err_msg=weight.path)


def test_what_the_config_sets_goes_before_what_is_recorded(source):
    config = _config(source, **{"model.overrides.survival_prob": 0.9})
    with config.unlocked():
        del config.model.overrides["blocks"]
    resolved, taken = fine_tuning.with_overrides(config, find_start(config).overrides)
    assert taken == {"blocks": list(tiny.BLOCKS)}
    assert resolved.model.overrides.survival_prob == 0.9
    assert "blocks" not in config.model.overrides
    assert resolved.is_locked


@pytest.mark.parametrize("kind", ["checkpoint", "file"])
def test_a_conditional_head_starts_anew_with_its_routing(kind, tmp_path):
    def build(classes):
        return models.create_model("mobilenet_v1_condconv_x0_25", classes, (16, 16, 3), num_experts=2)

    origin, model = build(4), build(6)
    if kind == "file":
        path = str(tmp_path / "a.weights.h5")
        models.save_weights(origin, path, {"num_experts": 2})
    else:
        state = checkpoints.prefixed("model", checkpoints.model_variables(origin))
        state["optimizer/iteration"] = tf.Variable(3, dtype=tf.int32)
        writer = checkpoints.Checkpoints(str(tmp_path), state, keep=1)
        writer.save(3)
        writer.close()
        path = checkpoints.newest(str(tmp_path))
    first = {weight.path: weight.numpy() for weight in model.weights}
    told = fine_tuning.load(Start(path, {}, 4 if kind == "file" else None), model, 6, False)
    head = [weight.path for weight in model.weights if is_head(weight)]
    assert {path.split("/")[0] for path in head} == {"head_dense", "head_dense_routing"}
    assert f"; {', '.join(head)} started anew" in told
    for one, other in zip(model.weights, origin.weights, strict=True):
        want = first[one.path] if is_head(one) else other.numpy()
        np.testing.assert_array_equal(one.numpy(), want, err_msg=one.path)


def test_a_run_from_before_there_was_fine_tuning_goes_on(tmp_path):
    config = tiny.get_config()
    experiment_config.claim(config, str(tmp_path))
    path = tmp_path / "config.json"
    record = json.loads(path.read_text())
    del record["config"]["init"]
    path.write_text(json.dumps(record))
    experiment_config.claim(config, str(tmp_path))
    config.init.body_rate = 0.5
    with pytest.raises(ConfigError, match=r"init.body_rate is 1.0 there and 0.5 here"):
        experiment_config.claim(config, str(tmp_path))


# Mistakes


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"init.body_rate": 0.0}, "config.init.body_rate is 0.0; it must be above 0"),
        ({"init.body_rate": -1.0}, "config.init.body_rate is -1.0; it must be above 0"),
        ({"init.freeze": (1,)}, r"config.init.freeze is \(1,\); write a tuple of patterns"),
        ({"init.freeze": ("stem_*", "blok1_*")}, r"'blok1_\*' matches no layer with weights of .*; nearest: block1_"),
        ({"init.freeze": ("stem_swish",)}, "'stem_swish' matches no layer with weights"),
        ({"init.freeze": ("*",)}, "leaves no layer of .* to train"),
        ({"init.weights": "/nowhere"}, "config.init.weights '/nowhere' is not there; give a .weights.h5 file"),
        ({"init.weights": "/nowhere.weights.h5"}, "'/nowhere.weights.h5' are not there"),
        ({"init.weights": "FOLDER"}, "is none of these; give a .weights.h5 file, the workdir"),
        ({"init.weights": "FOLDER/text.weights.h5"}, "text.weights.h5' cannot be read"),
        ({"init.weights": "FOLDER/empty"}, "has no newest checkpoint; train it first"),
        ({"model.name": "efficientnet_b0"}, "are of 'efficientnet_condconv_b0_4e' and config.model.name is"),
        (
            {"model.overrides.num_experts": 3},
            r"is of another network: 0 of \d+ variables are missing and \d+ differ in shape "
            r"\(ema/block2_routing/kernel is \[\d+, 2\] there and \[\d+, 3\] here",
        ),
        ({"init.weights": "FILE"}, r"tiny.weights.h5' are not of 'efficientnet_condconv_b0_4e' as built here: "),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(fields, message, source, weights_file, devices, tmp_path):
    folder = tmp_path / "folder"
    (folder / "empty").mkdir(parents=True)
    (folder / "text.weights.h5").write_text("no weights")
    experiment_config.claim(tiny.get_config(), str(folder / "empty"))
    config = _config(source)
    fields = {
        name: value.replace("FOLDER", str(folder)).replace("FILE", weights_file) if isinstance(value, str) else value
        for name, value in fields.items()
    }
    config.update_from_flattened_dict(fields)
    with pytest.raises(ValueError, match=message) as caught:
        train(config, str(tmp_path / "run"), devices)
    assert isinstance(caught.value, (ConfigError, models.ModelError))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_alone_has_no_record(source, tmp_path):
    for name in ("ckpt-16.index", "ckpt-16.data-00000-of-00001"):
        shutil.copy(f"{source}/checkpoints/{name}", tmp_path)
    assert find_start(_config(str(tmp_path / "ckpt-16"))) == Start(str(tmp_path / "ckpt-16"), {})
