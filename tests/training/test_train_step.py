"""A training step: loss, weight decay, accumulation, clipping, compilation. Many steps in one call."""

import functools
import time
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import tiny
from helpers.programs import TINY, run

from convzoo import layers
from convzoo.tasks import TASKS
from convzoo.tasks.task import cross_entropy
from convzoo.training import train_step as train_step_module
from convzoo.training.ema import MovingAverage
from convzoo.training.experiment import build_model
from convzoo.training.metrics import read_metrics
from convzoo.training.norms import norm_names
from convzoo.training.optimizers import RMSPropTF1
from convzoo.training.state import TrainState
from convzoo.training.train_step import MultiStep, initial_sums, train_step

CLASSIFICATION = TASKS["classification"]


def _network(seed=3):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4, 4, 1))
    x = keras.layers.Conv2D(3, 3, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(5, name="dense")(x))


def _batch(size=8):
    rng = np.random.default_rng(1)
    return {
        "image": tf.constant(rng.normal(size=(size, 4, 4, 1)).astype("float32")),
        "label": tf.constant(rng.integers(0, 5, size), tf.int32),
    }


def _train_once(model, batch, **settings):
    optimizer = keras.optimizers.SGD(0.5)
    optimizer.build(model.trainable_weights)
    return train_step(TrainState(model, optimizer), batch, task=CLASSIFICATION, batch_size=8, **settings)


def test_cross_entropy_with_label_smoothing():
    logits = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    labels = np.array([1, 0, 3])
    target = np.full((3, 4), 0.2 / 4)
    target[np.arange(3), labels] += 0.8
    log_softmax = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -(target * log_softmax).sum(-1)
    np.testing.assert_allclose(cross_entropy(tf.constant(labels), tf.constant(logits), 0.2), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "covered", [("kernels", "biases"), ("kernels",), ("batch_norm", "biases"), ("kernels", "biases", "batch_norm")]
)
def test_weight_decay_covers_the_named_weights(covered):
    plain, decayed, batch = _network(), _network(), _batch()
    for weight in (*plain.trainable_weights, *decayed.trainable_weights):
        weight.assign_add(tf.ones(weight.shape))  # biases start at zero
    before = {weight.path: weight.numpy() for weight in plain.weights}
    _train_once(plain, batch)
    _train_once(decayed, batch, weight_decay=0.1, weight_decay_on=covered)
    for with_decay, without in zip(decayed.trainable_weights, plain.trainable_weights, strict=True):
        path = with_decay.path
        kind = "batch_norm" if path.startswith("norm") else "biases" if path.endswith("bias") else "kernels"
        decay = 0.5 * 0.1 * before[path] if kind in covered else 0.0
        np.testing.assert_allclose(with_decay.numpy(), without.numpy() - decay, atol=1e-6, err_msg=path)


def test_weight_decay_multipliers():
    plain, decayed, batch = _network(), _network(), _batch()
    before = {weight.path: weight.numpy() for weight in plain.weights}
    _train_once(plain, batch, weight_decay=0.1)
    _train_once(decayed, batch, weight_decay=0.1, weight_decay_multipliers=(("*/kernel", 3.0), ("norm/*", 5.0)))
    for with_more, without in zip(decayed.trainable_weights, plain.trainable_weights, strict=True):
        more = 0.5 * 0.2 * before[with_more.path] if with_more.path.endswith("kernel") else 0.0
        np.testing.assert_allclose(with_more.numpy(), without.numpy() - more, atol=1e-6, err_msg=with_more.path)


def test_accumulation_equals_the_whole_batch():
    whole, accumulated, batch = _network(), _network(), _batch()
    for model in (whole, accumulated):
        model.get_layer("norm").trainable = False  # otherwise each part has its own batch statistics
    sums = _train_once(whole, batch), _train_once(accumulated, batch, accumulation_steps=4)
    for name in sums[0]:
        np.testing.assert_allclose(sums[0][name], sums[1][name], rtol=1e-5)
    for first, second in zip(whole.weights, accumulated.weights, strict=True):
        np.testing.assert_allclose(first.numpy(), second.numpy(), atol=1e-6)


def test_clipping_bounds_the_global_norm():
    model, batch = _network(), _batch()
    before = [weight.numpy() for weight in model.trainable_weights]
    _train_once(model, batch, clip_norm=0.01)
    changes = [weight.numpy() - old for weight, old in zip(model.trainable_weights, before, strict=True)]
    norm = np.sqrt(sum((change**2).sum() for change in changes))
    np.testing.assert_allclose(norm, 0.5 * 0.01, rtol=1e-4)  # learning rate times clip_norm


def test_norms_of_the_update():
    """Against the gradient that a step with weight decay makes of the loss, by class of layer."""
    model, batch = _network(), _batch()
    before = {weight.path: weight.numpy() for weight in model.trainable_weights}
    sums = _train_once(model, batch, weight_decay=0.1, clip_norm=0.01, log_norms=True)
    assert set(norm_names(model)) < sums.keys()
    assert len(norm_names(model)) == 9
    unclipped = _network()
    _train_once(unclipped, batch, weight_decay=0.1)
    for name in ("Conv2D", "BatchNormalization", "Dense"):
        paths = [path for path in before if path.startswith({"Conv2D": "conv", "Dense": "dense"}.get(name, "norm"))]
        after = {weight.path: weight.numpy() for weight in model.trainable_weights}
        full = {weight.path: weight.numpy() for weight in unclipped.trainable_weights}
        expected = {
            "weight": _norm(before[path] for path in paths),
            "update": _norm(after[path] - before[path] for path in paths),
            "gradient": _norm((full[path] - before[path]) / 0.5 for path in paths),  # of SGD with this learning rate
        }
        for kind, value in expected.items():
            np.testing.assert_allclose(sums[f"norms/{kind}/{name}"] / 8, value, rtol=1e-3, err_msg=f"{kind} {name}")


def _norm(arrays):
    return np.sqrt(sum((array.astype(np.float64) ** 2).sum() for array in arrays))


def test_norms_are_logged_by_a_run_on_two_replicas(tmp_path):
    """The norms are of the gradient of the whole batch, so two replicas log those of one."""
    runs = []
    for devices in ("cpu", "cpu:2"):
        workdir = tmp_path / devices
        flags = ["--config.log_norms=True", "--config.epochs=0.5", "--mode=train", f"--workdir={workdir}"]
        result = run("train.py", f"--config={TINY}:regions", *flags, f"--devices={devices}")
        assert result.returncode == 0, result.stderr
        assert "norms" not in result.stdout
        runs.append([line for line in read_metrics(str(workdir)) if "norms/gradient/GuidedMask" in line])
    assert len(runs[0]) == len(runs[1]) >= 1
    names = [name for name in runs[0][0] if name.startswith("norms/")]
    assert {"norms/update/DRConv2D", "norms/weight/BatchNormalization"} < set(names)
    for name in names:
        np.testing.assert_allclose(runs[0][0][name], runs[1][0][name], rtol=1e-3, err_msg=name)


def test_sums_are_computed_before_the_update():
    model, batch = _network(), _batch()
    logits = model(batch["image"], training=True)
    expected = float(tf.reduce_sum(cross_entropy(batch["label"], logits)))
    correct = int(tf.reduce_sum(tf.cast(tf.equal(tf.argmax(logits, -1, tf.int32), batch["label"]), tf.int32)))
    sums = _train_once(_network(), batch)
    np.testing.assert_allclose(sums["loss"], expected, rtol=1e-5)
    assert int(sums["accuracy"]) == correct


@pytest.mark.needs_xla_cpu
@pytest.mark.parametrize("variant", ["", "regions"])
def test_step_compiles_with_xla(variant):
    """XLA for the CPU rejects what a TPU rejects: loops over an unknown batch size, ops without a kernel."""
    config = tiny.get_config(variant)
    if not variant:  # XLA draws other random numbers
        config.model.overrides.update({"dropout_rate": 0.0, "survival_prob": 1.0})
    batch = {"image": tf.random.stateless_normal((4, 16, 16, 3), (1, 2)), "label": tf.constant([0, 1, 2, 3])}
    losses = {}
    try:
        for target, compiled in (("cpu", False), ("tpu", True)):
            layers.set_target(target)
            keras.utils.set_random_seed(0)
            model = build_model(config, 4)
            optimizer = RMSPropTF1(0.01, momentum=0.9)
            optimizer.build(model.trainable_weights)
            state = TrainState(model, optimizer, MovingAverage(model, 0.9))
            settings = {"task": CLASSIFICATION, "batch_size": 4, "weight_decay": 1e-4, "clip_norm": 1.0}
            step = tf.function(functools.partial(train_step, state, **settings), jit_compile=compiled)
            losses[target] = [float(step(batch)["loss"]) for _ in range(3)]
    finally:
        layers.set_target("cpu")
    np.testing.assert_allclose(losses["tpu"], losses["cpu"], rtol=1e-3)
    assert losses["tpu"][2] < losses["tpu"][0]


def _delayed(seconds, value):
    """Returns `value` after some time."""
    if not seconds:
        return value
    done = tf.numpy_function(lambda: time.sleep(seconds) or np.float32(0), [], tf.float32)
    with tf.control_dependencies([done]):
        return tf.identity(value)


@pytest.fixture
def run_steps(monkeypatch):
    """run(...) makes one step and then five, and returns sums, bad step and the share of time waited for input."""

    def run(input_seconds=0.0, step_seconds=0.0, measure_input_wait=True, losses=(1.0,)):
        strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
        iterations = tf.Variable(0, dtype=tf.int64)

        def fake_step(state, batch):
            loss = tf.gather(tf.constant(losses), tf.cast(iterations, tf.int32) % len(losses))
            count = iterations.assign_add(1)
            with tf.control_dependencies([count]):
                return {
                    "loss": _delayed(step_seconds, loss),
                    "accuracy": tf.reduce_sum(tf.cast(batch["image"], tf.float32)),
                }

        def make_dataset(context):
            endless = tf.data.Dataset.from_tensors({"image": tf.constant([1, 2])}).repeat()
            return endless.map(lambda batch: {"image": _delayed(input_seconds, batch["image"])})

        monkeypatch.setattr(train_step_module, "train_step", fake_step)
        state = SimpleNamespace(
            optimizer=SimpleNamespace(iterations=SimpleNamespace(value=iterations)),
            variables=lambda: {"iterations": iterations},
        )
        multi_step = MultiStep(strategy, state, measure_input_wait)
        iterator = iter(strategy.distribute_datasets_from_function(make_dataset))
        sums, _, _ = multi_step(iterator, 1, initial_sums(CLASSIFICATION))  # compiles
        start = time.perf_counter()
        sums, bad_step, waited = multi_step(iterator, 5, sums)
        share = waited / (time.perf_counter() - start)
        return {name: float(value) for name, value in sums.items()}, bad_step, share

    return run


def test_multi_step_sums_and_finds_the_first_bad_step(run_steps):
    sums, bad_step, _ = run_steps(losses=(1.0, 2.0, 3.0, 4.0, 5.0, 6.0))
    assert sums == {"loss": 21.0, "accuracy": 18.0}
    assert bad_step == -1
    assert run_steps(losses=(1.0, 2.0, float("inf"), 4.0, float("nan"), 6.0))[1] == 2


@pytest.mark.parametrize(
    ("input_seconds", "step_seconds", "lowest", "highest"),
    [
        (0.4, 0.0, 0.5, 1.0),
        (0.0, 0.4, 0.0, 0.4),
        (0.2, 0.4, 0.0, 0.4),  # loaded during the previous step
        (0.8, 0.4, 0.2, 0.8),  # half of the time remains to wait
    ],
)
def test_input_wait(run_steps, input_seconds, step_seconds, lowest, highest):
    assert lowest <= run_steps(input_seconds, step_seconds)[2] <= highest


def test_input_wait_is_zero_if_not_measured(run_steps):
    assert run_steps(0.1, 0.0, measure_input_wait=False)[2] == 0.0


# Trains on one batch again and again, which is there at once, and on batches that take two more steps to make. Prints
# the share of time waited for input of each.
_WAITING = """
import sys, time
import tensorflow as tf
from convzoo.cli import program
from convzoo.tasks import get_task
from convzoo.training import devices
from convzoo.training.state import build_train_state
from convzoo.training.train_step import MultiStep, initial_sums, step_settings
config = program.read_config("configs/quickstart.py", ["config.batch_size=128"])
connected = devices.connect(devices=sys.argv[1])
strategy, task, replicas = connected.strategy, get_task(config), connected.num_replicas
with strategy.scope():
    state = build_train_state(config, 10, 0.01, replicas)
multi_step = MultiStep(strategy, state, **step_settings(config, task, replicas))
def share(delay):
    def make_dataset(context):
        size = context.get_per_replica_batch_size(128)
        batch = {"image": tf.random.normal([size, 32, 32, 3]), "label": tf.zeros([size], tf.int32)}
        dataset = tf.data.Dataset.from_tensors(batch).repeat()
        def slow(batch):
            wait = tf.numpy_function(lambda: time.sleep(delay) or 0, [], tf.int64)
            with tf.control_dependencies([wait]):
                return tf.nest.map_structure(tf.identity, batch)
        return dataset.map(slow) if delay else dataset.prefetch(2)
    iterator = iter(strategy.distribute_datasets_from_function(make_dataset))
    multi_step(iterator, 3, initial_sums(task))
    start = time.perf_counter()
    _, _, waited = multi_step(iterator, 6, initial_sums(task))
    seconds = time.perf_counter() - start
    return waited / seconds, seconds / 6
fixed, step_seconds = share(0)
print(fixed, share(3 * step_seconds)[0])
"""


@pytest.mark.parametrize("devices", ["cpu", "cpu:2"])
def test_input_wait_of_a_network(devices, tmp_path):
    program = tmp_path / "waiting.py"
    program.write_text(_WAITING)
    result = run(program, devices)
    assert result.returncode == 0, result.stderr
    fixed, slow = map(float, result.stdout.split())
    assert fixed < 0.2  # the end of the forward pass would make it more than a half
    assert 0.4 < slow < 0.9
