"""Labels for every pixel: the figures, a training, its evaluation, its start from a backbone, and its export."""

import json

import numpy as np
import pytest
import tensorflow as tf
from helpers import tiny

from convzoo import data, models
from convzoo.serving import export_saved_model
from convzoo.training import assessment, checkpoints, experiment
from convzoo.training.config import ConfigError, load, validate
from convzoo.training.devices import connect
from convzoo.training.fine_tuning import Start
from convzoo.training.fine_tuning import load as load_start
from convzoo.training.loop import train
from convzoo.training.records import read_metrics
from convzoo.training.tasks import Segmentation


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    workdir = str(tmp_path_factory.mktemp("run"))
    config = tiny.get_config("segmentation")
    config.data.crop_area = (0.5, 1.0)
    config.epochs = 8.0
    train(config, workdir, connect(devices="cpu"))
    return workdir


@pytest.fixture(scope="module")
def trained(workdir):
    """The experiment, its source, and the network of its newest checkpoint."""
    config = load(workdir)
    source = experiment.open_source(config)
    model = experiment.build_model(config, source.num_classes)
    assessment.restore_weights(assessment.find_checkpoint(workdir, "newest"), model)
    return config, source, model


def labels_and_logits(seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, (3, 5, 6)).astype("int32")
    labels[rng.uniform(size=labels.shape) < 0.2] = data.IGNORED
    labels[2] = data.IGNORED  # a picture that says nothing
    labels[labels == 3] = 1  # a class that is never true
    return labels, rng.normal(size=(3, 5, 6, 5)).astype("float32") - [0, 0, 0, 0, 100]  # and one never said


def test_losses_and_shares_of_a_picture_are_means_over_its_labelled_pixels():
    labels, logits = labels_and_logits()
    losses, right = (
        f(tf.constant(labels), tf.constant(logits)).numpy() for f in (Segmentation().losses, Segmentation().right)
    )
    for picture in range(2):
        there = labels[picture] != data.IGNORED
        rows, truth = logits[picture][there], labels[picture][there]
        log_softmax = rows - np.log(np.exp(rows).sum(-1, keepdims=True))
        np.testing.assert_allclose(losses[picture], -log_softmax[np.arange(len(truth)), truth].mean(), rtol=1e-5)
        np.testing.assert_allclose(right[picture], (rows.argmax(-1) == truth).mean(), rtol=1e-6)
    assert losses[2] == right[2] == 0


def test_mean_intersection_over_union_of_all_pixels_together():
    task = Segmentation()
    parts = [labels_and_logits(seed) for seed in range(3)]
    mask = np.array([1, 0, 1], "float32")
    sums = task.zeros(5)
    for labels, logits in parts:
        for name, value in task.sums(tf.constant(labels), tf.constant(logits), tf.constant(mask)).items():
            sums[name] += value
    figures = task.figures({name: value.numpy() for name, value in sums.items()}, 6)
    truth = np.concatenate([labels[mask > 0].ravel() for labels, _ in parts])
    answers = np.concatenate([logits[mask > 0].argmax(-1).ravel() for _, logits in parts])
    truth, answers = truth[truth != data.IGNORED], answers[truth != data.IGNORED]
    union = [
        ((truth == c) & (answers == c)).sum() / ((truth == c) | (answers == c)).sum()
        for c in range(5)
        if ((truth == c) | (answers == c)).any()
    ]
    assert len(union) == 4  # class 3 is said and never true, class 4 neither
    assert figures["miou"] == pytest.approx(np.mean(union), abs=1e-12)
    assert figures["pixel_accuracy"] == pytest.approx((truth == answers).mean(), abs=1e-12)
    assert sums["confusion"].dtype == tf.int64


def test_a_run_learns_and_keeps_what_did_best(workdir):
    lines = read_metrics(workdir)
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert losses[-1] < 0.8 * losses[0]
    figures = [line["eval/miou"] for line in lines if "eval/miou" in line]
    best = checkpoints.best_record(workdir)
    assert (best["metric"], best["value"]) == ("miou", max(figures))


def test_evaluation_counts_every_pixel_once(workdir, trained):
    config, source, model = trained
    assessor = assessment.Assessor(config, workdir, connect(devices="cpu"), "test", batch_size=12)
    record = assessor.assess(assessment.find_checkpoint(workdir, "newest"))
    assert record["examples"] == source.splits["test"] == 32
    inputs = experiment.input_settings(config)
    assert inputs.pop("crop_fraction") is None
    examples = list(source.dataset("test").as_numpy_iterator())
    images = data.eval_transform(np.stack([e["image"] for e in examples]), crop_fraction=None, **inputs)
    truth, answers = np.stack([e["label"] for e in examples]), np.argmax(model(images, training=False), -1)
    union = [
        ((truth == c) & (answers == c)).sum() / ((truth == c) | (answers == c)).sum()
        for c in range(4)
        if ((truth == c) | (answers == c)).any()
    ]
    assert record["miou"] == pytest.approx(np.mean(union), abs=1e-3)
    json.dumps(record)


def test_every_weight_gets_a_gradient(trained):
    _, _, model = trained
    images = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype("float32")
    labels = np.random.default_rng(1).integers(0, 4, (4, 16, 16)).astype("int32")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(Segmentation().losses(labels, model(images, training=False)))
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert gradient is not None, weight.path
        assert np.any(gradient), weight.path


def test_a_run_starts_from_a_classifiers_weights(tmp_path):
    config = tiny.get_config("segmentation")
    overrides = config.model.overrides.to_dict()
    classifier = models.create_model(config.model.name, 7, (32, 32, 3), **overrides)
    path = str(tmp_path / "backbone.weights.h5")
    models.save_weights(classifier, path, overrides)
    config.init.weights, config.init.freeze, config.epochs = path, ("stem_*", "block*"), 0.5
    config.model.overrides = {}  # of the file's record
    config.ema_decay = None
    train(config, str(tmp_path / "run"), connect(devices="cpu"))
    config = load(str(tmp_path / "run"))
    model = experiment.build_model(config, 4)
    assessment.restore_weights(assessment.find_checkpoint(str(tmp_path / "run"), "newest"), model)
    for layer in classifier.layers:
        if layer.name.startswith(("stem_", "block")):
            for ours, theirs in zip(model.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True):
                np.testing.assert_array_equal(ours, theirs)


def test_a_run_starts_from_another_task_or_number_of_classes(tmp_path, workdir):
    model = experiment.build_model(load(workdir), 7)
    start = Start(assessment.find_checkpoint(workdir, "newest"), {})
    told = load_start(start, model, 7, new_head=False)
    assert told.endswith("; segment_head_conv/kernel, segment_head_conv/bias started anew")
    config = tiny.get_config("segmentation")
    classifier = models.create_model(config.model.name, 4, (16, 16, 3), **config.model.overrides.to_dict())
    assert "head_dense/kernel, head_dense/bias started anew" in load_start(start, classifier, 4, new_head=False)
    before, after = model.get_layer("block0_1_conv"), classifier.get_layer("block0_1_conv")
    np.testing.assert_array_equal(before.get_weights()[0], after.get_weights()[0])


def test_in_parts_and_in_bfloat16(tmp_path):
    config = tiny.get_config("segmentation")
    config.gradient_accumulation, config.precision, config.epochs = 2, "mixed_bfloat16", 1.0
    train(config, str(tmp_path / "run"), connect(devices="cpu"))
    assert np.isfinite([line["eval/miou"] for line in read_metrics(str(tmp_path / "run")) if "eval/miou" in line][-1])


def test_weights_of_another_network(tmp_path):
    path = str(tmp_path / "other.weights.h5")
    overrides = {"width_coefficient": 0.125}
    models.save_weights(models.create_model("resnet18", 7, (32, 32, 3), **overrides), path, overrides)
    config = tiny.get_config("segmentation")
    config.init.weights = path
    with pytest.raises(ConfigError, match=r"are of 'resnet18' and config\.model\.name is 'lean_resnet18_cifar'"):
        train(config, str(tmp_path / "run"), connect(devices="cpu"))
    assert not (tmp_path / "run").exists()


def test_settings_that_cannot_be():
    config = tiny.get_config("segmentation")
    config.task = "detection"
    with pytest.raises(ConfigError, match=r"config\.task is 'detection'; choose one of classification, segmentation"):
        validate(config, 1)
    config = tiny.get_config("segmentation")
    config.data.crop_fraction = 0.875
    with pytest.raises(ConfigError, match="takes pictures whole; set it to None"):
        validate(config, 1)
    config = tiny.get_config("segmentation")
    config.segmentation.atrous_rates = (0, 2)
    with pytest.raises(ConfigError, match="write positive whole numbers"):
        validate(config, 1)
    config = tiny.get_config()
    config.task = "segmentation"
    with pytest.raises(data.DataError, match="has one label a picture; with one a pixel there are shapes, tfds"):
        experiment.open_source(config)


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    config, source, _ = trained
    folder = str(tmp_path_factory.mktemp("export") / "saved_model")
    model = experiment.build_model(config, source.num_classes, precision="float32")
    model.set_weights(trained[2].get_weights())
    export_saved_model(model, folder, source.class_names, source.has_maps, **experiment.input_settings(config))
    return tf.saved_model.load(folder), folder


def test_exported_maps_have_the_size_of_the_pictures(trained, exported):
    config, _, model = trained
    pictures = np.random.default_rng(2).integers(0, 256, (2, 23, 40, 3), dtype=np.uint8)
    answer = exported[0].signatures["images"](images=tf.constant(pictures))
    assert set(answer) == {"classes", "probabilities"}
    assert answer["classes"].shape == (2, 23, 40)
    assert answer["classes"].dtype == tf.int32
    images = data.eval_transform(tf.constant(pictures), **experiment.input_settings(config))
    logits = tf.image.resize(model(images, training=False), (23, 40), method="bilinear")
    np.testing.assert_allclose(answer["probabilities"], tf.nn.softmax(logits), atol=1e-4)
    np.testing.assert_allclose(answer["classes"], np.argmax(answer["probabilities"], -1))
    # Encoded, and alone.
    encoded = tf.stack([tf.io.encode_png(picture) for picture in pictures])
    of_bytes = exported[0].signatures["serving_default"](image_bytes=encoded)
    np.testing.assert_allclose(of_bytes["probabilities"], answer["probabilities"], atol=1e-5)
    alone = exported[0].signatures["serving_default"](image_bytes=encoded[1:])
    np.testing.assert_allclose(alone["probabilities"][0], answer["probabilities"][1], atol=1e-4)
    with open(f"{exported[1]}/assets/labels.txt") as file:
        assert file.read().splitlines() == ["background", "disc", "square", "triangle"]


def test_pictures_of_several_sizes_are_refused(exported):
    pictures = [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)]
    encoded = tf.stack([tf.io.encode_png(picture) for picture in pictures])
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be of one size"):
        exported[0].signatures["serving_default"](image_bytes=encoded)
