"""Every registered network, as published but for the size of the pictures: trained, differentiated, exported.

A newly registered network needs no test of its own for this. The whole takes long:

    ./scripts/test.sh -m slow tests/test_every_network.py
"""

import numpy as np
import pytest
import tensorflow as tf

from convzoo import data, models
from convzoo.configs import base
from convzoo.serving import export_saved_model
from convzoo.training import assessment, experiment
from convzoo.training.config import load
from convzoo.training.devices import connect
from convzoo.training.loop import train

SIZE, CLASSES, PICTURES = 64, 3, 8
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
    # Two small steps must do for the statistics of normalisation, those of the very pictures that are looked at
    # afterwards: with those of other pictures or other weights the numbers of a deep network grow from layer to layer
    # until no comparison survives.
    config.data.source = f"fake:classes={CLASSES},size={SIZE},examples={PICTURES}"
    config.data.crop_area = config.data.crop_aspect = (1.0, 1.0)
    config.data.crop_fraction = 1.0
    config.data.flip = False
    config.batch_size = PICTURES
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
    config = load(workdir)
    model = experiment.build_model(config, CLASSES)
    assessment.restore_weights(assessment.find_checkpoint(workdir, "newest"), model, "raw")
    pictures = tf.stack([example["image"] for example in data.open_source(config.data.source).dataset("train")])
    _check_gradients(model, data.eval_transform(pictures, **experiment.input_settings(config)))
    _check_export(config, workdir, str(tmp_path / "saved_model"), pictures)


def _check_gradients(model, images):
    with tf.GradientTape() as tape:
        logits = model(images, training=False)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(np.arange(PICTURES) % CLASSES, logits))
    assert logits.dtype == tf.float32
    assert np.isfinite(loss)
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert weight.dtype == "float32"
        assert gradient is not None, f"{weight.path} gets no gradient"
        assert np.all(np.isfinite(gradient)), f"the gradient of {weight.path} is not finite"
        assert np.any(gradient), f"the gradient of {weight.path} is zero"


def _check_export(config, workdir, folder, pictures):
    model = experiment.build_model(config, CLASSES, precision="float32")
    assessment.restore_weights(assessment.find_checkpoint(workdir, "newest"), model)
    inputs = experiment.input_settings(config)
    export_saved_model(model, folder, [str(label) for label in range(CLASSES)], **inputs)
    served = tf.saved_model.load(folder).signatures["images"]
    whole = served(images=pictures)["logits"]
    alone = [served(images=pictures[index : index + 1])["logits"][0] for index in range(PICTURES)]
    # The signature knows no batch size: one picture and all are served alike.
    np.testing.assert_allclose(np.stack(alone), whole, rtol=1e-3, atol=1e-4)
    prepared = data.eval_transform(pictures, **inputs)
    np.testing.assert_allclose(model(prepared, training=False), whole, rtol=1e-3, atol=1e-4)
