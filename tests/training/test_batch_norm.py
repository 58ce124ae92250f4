"""BatchNorm across replicas: statistics of all replicas, of groups, and of each replica."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.programs import TINY, run

from convzoo.training.batch_norm import fuse_batch_norm
from convzoo.training.checkpoints import newest

# Four replicas; the images of replica r have mean r. Saves outputs, gradients and moving statistics after one step, and
# the statistics after averaging.
_PROGRAM = """
import json, sys
import keras, numpy as np, tensorflow as tf
from convzoo.training.batch_norm import StatisticsAverage, synchronize_batch_norm
from convzoo.training.devices import connect
from convzoo.training.ema import MovingAverage
strategy = connect(devices="cpu:4").strategy
images = np.random.default_rng(0).normal(size=(4, 8, 3, 3, 2)).astype("float32")
images += np.arange(4, dtype="float32")[:, None, None, None, None]
with strategy.scope():
    inputs = keras.Input((3, 3, 2))
    layer = keras.layers.BatchNormalization(momentum=0.5, epsilon=0.0, name="norm")
    model = keras.Model(inputs, layer(inputs))
    differ = synchronize_batch_norm(model, 4, json.loads(sys.argv[1]))
    ema = MovingAverage(model, 0.5)
    average_statistics = StatisticsAverage(model, ema, strategy)
def step():
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    x = tf.gather(images, replica)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x, training=True)
        loss = tf.reduce_sum(y ** 3)
    ema.update(tf.constant(0))
    return y, tape.gradient(loss, x)
outputs, gradients = (strategy.experimental_local_results(part) for part in tf.function(lambda: strategy.run(step))())
def read(variable):
    return [part.numpy().tolist() for part in strategy.experimental_local_results(variable)]
before = read(layer.moving_mean.value), read(layer.moving_variance.value)
average_statistics()
average = next(value for path, value in ema.variables.items() if path.endswith("moving_mean"))
np.savez(sys.argv[2], images=images, outputs=np.stack(outputs), gradients=np.stack(gradients), before=before,
         after=(read(layer.moving_mean.value), read(layer.moving_variance.value)), average=read(average), differ=differ)
"""


def _normalize(images, output_gradient):
    """Returns outputs, gradients, mean and variance of BatchNorm over all examples of a group, computed in NumPy."""
    mean, variance = images.mean((0, 1, 2)), images.var((0, 1, 2))
    y = (images - mean) / np.sqrt(variance)
    g = output_gradient(y)
    return y, (g - g.mean((0, 1, 2)) - y * (g * y).mean((0, 1, 2))) / np.sqrt(variance), mean, variance


@pytest.mark.parametrize("group_size", [None, 2, 1])
def test_statistics_gradients_and_their_average(group_size, tmp_path):
    program = tmp_path / "normalize.py"
    program.write_text(_PROGRAM)
    result = run(program, json.dumps(group_size), tmp_path / "results.npz")
    assert result.returncode == 0, result.stderr
    results = np.load(tmp_path / "results.npz")
    size = group_size or 4
    assert bool(results["differ"]) == (group_size is not None)
    for first in range(0, 4, size):
        part = slice(first, first + size)
        images = results["images"][part].reshape(-1, 3, 3, 2).astype(np.float64)
        y, gradient, mean, variance = _normalize(images, lambda y: 3 * y**2)
        np.testing.assert_allclose(results["outputs"][part].reshape(y.shape), y, atol=1e-4)
        np.testing.assert_allclose(results["gradients"][part].reshape(y.shape), gradient, atol=2e-4)
        for replica in range(first, first + size):
            np.testing.assert_allclose(results["before"][0][replica], 0.5 * mean, atol=1e-5)
            np.testing.assert_allclose(results["before"][1][replica], 0.5 + 0.5 * variance, atol=1e-5)
    for before, after in zip(results["before"], results["after"], strict=True):
        np.testing.assert_allclose(after, np.broadcast_to(before.mean(0), after.shape), atol=1e-6)
    # The moving average starts at 0 with decay 0.1 and is averaged like the statistics.
    np.testing.assert_allclose(results["average"], 0.9 * results["after"][0], atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_the_fused_op_is_keras_batch_norm(dtype):
    images = np.random.default_rng(0).normal(2.0, 3.0, size=(4, 3, 5, 7)).astype("float32")

    def step(fused):
        layer = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-2, dtype=dtype)
        inputs = keras.Input(images.shape[1:])
        model = keras.Model(inputs, layer(inputs))
        layer.gamma.assign(np.linspace(0.5, 2.0, 7))
        layer.beta.assign(np.linspace(-1.0, 1.0, 7))
        if fused:
            fuse_batch_norm(model)
        x, weights = tf.constant(images), [weight.value for weight in layer.trainable_weights]
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = model(x, training=True)
            loss = tf.reduce_sum(tf.cast(outputs, tf.float32) ** 3)
        gradients = tape.gradient(loss, [x, *weights])
        ops = tf.function(lambda x: model(x, training=True)).get_concrete_function(x).graph.get_operations()
        assert any(op.type == "FusedBatchNormV3" for op in ops) == fused
        layer.trainable = False  # frozen: moving statistics
        return outputs, *gradients, layer.moving_mean, layer.moving_variance, model(x, training=True), model(x)

    tolerance = {"rtol": 0.02, "atol": 0.3} if dtype == "mixed_bfloat16" else {"rtol": 1e-4, "atol": 1e-4}
    for fused, composed in zip(step(True), step(False), strict=True):
        assert fused.dtype == composed.dtype
        np.testing.assert_allclose(np.asarray(fused, np.float32), np.asarray(composed, np.float32), **tolerance)


def test_channels_first_is_left_to_keras():
    inputs = keras.Input((3, 4, 4))
    model = keras.Model(inputs, keras.layers.BatchNormalization(axis=1)(inputs))
    images = tf.random.normal((2, 3, 4, 4), seed=0)
    before = model(images, training=True)
    fuse_batch_norm(model)
    np.testing.assert_array_equal(model(images, training=True), before)


# train.py that saves the statistics of all replicas before they are averaged.
_TRAINING = """
import runpy, sys
import numpy as np
from convzoo.training import loop
average, output = loop.StatisticsAverage.__call__, sys.argv.pop(1)
def save_and_average(self):
    for name, variable in (("mean", self._variables[0]), ("variance", self._variables[1])):
        np.save(f"{output}.{name}.npy", [part.numpy() for part in variable.values])
    average(self)
loop.StatisticsAverage.__call__ = save_and_average
sys.argv[0] = "train.py"
runpy.run_path("train.py", run_name="__main__")
"""


def test_checkpoint_has_the_averaged_statistics(tmp_path):
    program = tmp_path / "train.py"
    program.write_text(_TRAINING)
    flags = (
        f"--config={TINY}:regions",
        f"--workdir={tmp_path / 'run'}",
        "--devices=cpu:4",
        "--config.batch_norm_replicas=2",
    )
    result = run(program, tmp_path / "seen", *flags, "--config.epochs=1.0", "--mode=train")
    assert result.returncode == 0, result.stderr
    reader = tf.train.load_checkpoint(newest(str(tmp_path / "run")))
    keys = {key.replace(".S", "/"): key for key in reader.get_variable_to_shape_map()}
    for name in ("mean", "variance"):
        seen = np.load(tmp_path / f"seen.{name}.npy")
        np.testing.assert_array_equal(seen[::2], seen[1::2])  # within a group
        assert np.abs(seen[0] - seen[2]).max() > 1e-4  # Keras alone would save those of the first replica
        (key,) = (keys[key] for key in keys if key.startswith(f"variables/model/stem_bn/moving_{name}/."))
        np.testing.assert_allclose(reader.get_tensor(key), seen.mean(0), rtol=1e-5, atol=1e-7)
