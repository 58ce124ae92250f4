"""Every registered network, as published but for the size of the images: trained, differentiated, exported.

A newly registered network needs no test of its own for this. The whole takes long:

    ./scripts/test.sh -m slow tests/test_every_network.py
"""

import numpy as np
import pytest
import tensorflow as tf

from convzoo import data, models
from convzoo.configs import base
from convzoo.serving import export_saved_model
from convzoo.tasks import get_task
from convzoo.training import checkpoints, experiment
from convzoo.training.devices import connect
from convzoo.training.loop import train
from convzoo.training.workdir import load_config

SIZE, CLASSES, IMAGES = 64, 3, 8
# In every run of the tests: a small one with conditional layers, one of another kind of block.
ALWAYS = ("mobilenet_v1_condconv_x0_25", "shufflenet_v2_x0_5")


def _cases():
    for name in models.list_models():
        for precision in ("float32", "mixed_bfloat16"):
            often = name in ALWAYS and precision == "float32"
            yield pytest.param(name, precision, id=f"{name}-{precision}", marks=[] if often else [pytest.mark.slow])


def _config(name, precision):
    config = base.get_config()
    config.model.name = name
    config.model.image_size = SIZE
    with config.unlocked():
        config.model.overrides.bn_momentum = 0.1
    # Two small steps must do for the statistics of normalization, those of the very images that are looked at
    # afterwards: with those of other images or other weights the numbers of a deep network grow from layer to layer
    # until no comparison survives.
    config.data.source = f"fake:classes={CLASSES},size={SIZE},examples={IMAGES}"
    config.data.crop_area = config.data.crop_aspect = (1.0, 1.0)
    config.data.crop_fraction = 1.0
    config.data.flip = False
    config.batch_size = IMAGES
    config.epochs = 2.0
    config.precision = precision
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 1e-5
    config.ema_decay = 0.9
    return config


@pytest.mark.parametrize(("name", "precision"), list(_cases()))
def test_training_gradients_and_export(name, precision, tmp_path):
    workdir = str(tmp_path / "run")
    # A loss or a weight that is not finite ends the training with an error.
    train(_config(name, precision), workdir, connect())
    config = load_config(workdir)
    model = experiment.build_model(config, CLASSES)
    checkpoints.restore_weights(checkpoints.find_checkpoint(workdir, "newest"), model, "raw")
    images = tf.stack([example["image"] for example in data.open_source(config.data.source).dataset("train")])
    _check_gradients(model, data.eval_transform(images, **experiment.input_settings(config)))
    _check_export(config, workdir, str(tmp_path / "saved_model"), images)


def _check_gradients(model, images):
    with tf.GradientTape() as tape:
        logits = model(images, training=False)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(np.arange(IMAGES) % CLASSES, logits))
    assert logits.dtype == tf.float32
    assert np.isfinite(loss)
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert weight.dtype == "float32"
        assert gradient is not None, f"{weight.path} gets no gradient"
        assert np.all(np.isfinite(gradient)), f"the gradient of {weight.path} is not finite"
        assert np.any(gradient), f"the gradient of {weight.path} is zero"


def _check_export(config, workdir, folder, images):
    model = experiment.build_model(config, CLASSES, precision="float32")
    checkpoints.restore_weights(checkpoints.find_checkpoint(workdir, "newest"), model)
    inputs = experiment.input_settings(config)
    export_saved_model(model, folder, [str(label) for label in range(CLASSES)], get_task(config), **inputs)
    served = tf.saved_model.load(folder).signatures["images"]
    whole = served(images=images)["logits"]
    alone = [served(images=images[index : index + 1])["logits"][0] for index in range(IMAGES)]
    # The signature knows no batch size: one image and all are served alike.
    np.testing.assert_allclose(np.stack(alone), whole, rtol=1e-3, atol=1e-4)
    prepared = data.eval_transform(images, **inputs)
    np.testing.assert_allclose(model(prepared, training=False), whole, rtol=1e-3, atol=1e-4)
