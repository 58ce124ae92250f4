"""Batch normalisation over replicas: all together, in groups, and each by itself."""

import json

import numpy as np
import pytest
import tensorflow as tf
from helpers.programs import TINY, run

from convzoo.training.checkpoints import newest

# Four replicas, each with the part of the batch that has its number for a mean. Prints what each normalises by, its
# moving mean after a step, and the one that is read after averaging.
_PROGRAM = """
import json, sys
import keras, numpy as np, tensorflow as tf
from convzoo.training.batch_norm import StatisticsAverage, normalise_together
from convzoo.training.devices import connect
from convzoo.training.ema import MovingAverage
strategy = connect(devices="cpu:4").strategy
images = np.random.default_rng(0).normal(size=(4, 8, 3, 3, 2)).astype("float32")
images += np.arange(4, dtype="float32")[:, None, None, None, None]
with strategy.scope():
    inputs = keras.Input((3, 3, 2))
    layer = keras.layers.BatchNormalization(momentum=0.5, epsilon=0.0, name="norm")
    model = keras.Model(inputs, layer(inputs))
    differ = normalise_together(model, 4, json.loads(sys.argv[1]))
    average = MovingAverage(model, 0.5)
    averaging = StatisticsAverage(model, average, strategy)
def step():
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    x = tf.gather(images, replica)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x, training=True)
        loss = tf.reduce_sum(y ** 3)
    average.update(tf.constant(0))
    return y, tape.gradient(loss, x)
outputs, gradients = (strategy.experimental_local_results(part) for part in tf.function(lambda: strategy.run(step))())
def read(variable):
    return [part.numpy().tolist() for part in strategy.experimental_local_results(variable)]
before = read(layer.moving_mean.value), read(layer.moving_variance.value)
averaging()
shadow = next(value for path, value in average.variables.items() if path.endswith("moving_mean"))
np.savez(sys.argv[2], images=images, outputs=np.stack(outputs), gradients=np.stack(gradients), before=before,
         after=(read(layer.moving_mean.value), read(layer.moving_variance.value)), shadow=read(shadow), differ=differ)
"""


def _alone(images, gradient_of_all):
    """What one replica with all the examples of a group gives, in NumPy: outputs, gradients, mean and variance."""
    mean, variance = images.mean((0, 1, 2)), images.var((0, 1, 2))
    y = (images - mean) / np.sqrt(variance)
    g = gradient_of_all(y)
    return y, (g - g.mean((0, 1, 2)) - y * (g * y).mean((0, 1, 2))) / np.sqrt(variance), mean, variance


@pytest.mark.parametrize("together", [None, 2, 1])
def test_statistics_gradients_and_their_average(together, tmp_path):
    program = tmp_path / "normalise.py"
    program.write_text(_PROGRAM)
    result = run(program, json.dumps(together), tmp_path / "results.npz")
    assert result.returncode == 0, result.stderr
    found = np.load(tmp_path / "results.npz")
    size = together or 4
    assert bool(found["differ"]) == (together is not None)
    for first in range(0, 4, size):
        part = slice(first, first + size)
        images = found["images"][part].reshape(-1, 3, 3, 2).astype(np.float64)
        y, gradient, mean, variance = _alone(images, lambda y: 3 * y**2)
        np.testing.assert_allclose(found["outputs"][part].reshape(y.shape), y, atol=1e-4)
        np.testing.assert_allclose(found["gradients"][part].reshape(y.shape), gradient, atol=2e-4)
        for replica in range(first, first + size):
            np.testing.assert_allclose(found["before"][0][replica], 0.5 * mean, atol=1e-5)
            np.testing.assert_allclose(found["before"][1][replica], 0.5 + 0.5 * variance, atol=1e-5)
    for before, after in zip(found["before"], found["after"], strict=True):
        np.testing.assert_allclose(after, np.broadcast_to(before.mean(0), after.shape), atol=1e-6)
    # The shadow began at 0 and went (1 - 0.1) of the way; then it is averaged as the statistics are.
    np.testing.assert_allclose(found["shadow"], 0.9 * found["after"][0], atol=1e-5)


# train.py that writes down the statistics of all replicas before they are averaged for the last time.
_TRAINING = """
import runpy, sys
import numpy as np
from convzoo.training import loop
average, output = loop.StatisticsAverage.__call__, sys.argv.pop(1)
def noting(self):
    for name, variable in (("mean", self._variables[0]), ("variance", self._variables[1])):
        np.save(f"{output}.{name}.npy", [part.numpy() for part in variable.values])
    average(self)
loop.StatisticsAverage.__call__ = noting
sys.argv[0] = "train.py"
runpy.run_path("train.py", run_name="__main__")
"""


def test_a_checkpoint_has_the_average_of_the_replicas_statistics(tmp_path):
    program = tmp_path / "train.py"
    program.write_text(_TRAINING)
    flags = (f"--config={TINY}", f"--workdir={tmp_path / 'run'}", "--devices=cpu:4", "--config.batch_norm_replicas=2")
    result = run(program, tmp_path / "seen", *flags, "--config.epochs=1.0")
    assert result.returncode == 0, result.stderr
    reader = tf.train.load_checkpoint(newest(str(tmp_path / "run")))
    keys = {key.replace(".S", "/"): key for key in reader.get_variable_to_shape_map()}
    for name in ("mean", "variance"):
        seen = np.load(tmp_path / f"seen.{name}.npy")
        np.testing.assert_array_equal(seen[::2], seen[1::2])  # within a group
        assert np.abs(seen[0] - seen[2]).max() > 1e-4  # Keras would keep the first replica's alone
        (key,) = (keys[key] for key in keys if key.startswith(f"variables/model/stem_bn/moving_{name}/."))
        np.testing.assert_allclose(reader.get_tensor(key), seen.mean(0), rtol=1e-5, atol=1e-7)
