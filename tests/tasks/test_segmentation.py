"""Segmentation: losses and metrics, a run and its evaluation, initial weights, export."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import tiny
from helpers.programs import run, usage_error

from convzoo import data, models
from convzoo.configs.schema import validate
from convzoo.errors import ConfigError, DataError, UnavailableError
from convzoo.serving import export_saved_model
from convzoo.tasks import Segmentation, get_task
from convzoo.tasks.segmentation import resize_within
from convzoo.training import checkpoints, experiment
from convzoo.training.devices import connect
from convzoo.training.evaluation import CheckpointEvaluator
from convzoo.training.fine_tuning import Initialization, load
from convzoo.training.loop import train
from convzoo.training.memory import check_memory
from convzoo.training.metrics import read_metrics
from convzoo.training.workdir import load_config


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
    """Config, source and network of the newest checkpoint."""
    config = load_config(workdir)
    source = experiment.open_source(config)
    model = experiment.build_model(config, source.num_classes)
    checkpoints.restore_weights(checkpoints.find_checkpoint(workdir, "newest"), model)
    return config, source, model


def _labels_and_logits(seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, (3, 5, 6)).astype("int32")
    labels[rng.uniform(size=labels.shape) < 0.2] = data.IGNORED
    labels[2] = data.IGNORED  # an image without labels
    labels[labels == 3] = 1  # class 3 never occurs in the labels
    return labels, rng.normal(size=(3, 5, 6, 5)).astype("float32") - [0, 0, 0, 0, 100]  # class 4 is never predicted


def test_loss_and_accuracy_are_means_over_labeled_pixels():
    labels, logits = _labels_and_logits()
    task, tensors = Segmentation(), (tf.constant(labels), tf.constant(logits))
    losses, accuracies = task.losses(*tensors).numpy(), task.train_metrics(*tensors)["accuracy"].numpy()
    for image in range(2):
        labeled = labels[image] != data.IGNORED
        rows, truth = logits[image][labeled], labels[image][labeled]
        log_softmax = rows - np.log(np.exp(rows).sum(-1, keepdims=True))
        np.testing.assert_allclose(losses[image], -log_softmax[np.arange(len(truth)), truth].mean(), rtol=1e-5)
        np.testing.assert_allclose(accuracies[image], (rows.argmax(-1) == truth).mean(), rtol=1e-6)
    assert losses[2] == accuracies[2] == 0


def test_mean_iou_is_computed_over_all_pixels_of_the_split():
    task = Segmentation()
    batches = [_labels_and_logits(seed) for seed in range(3)]
    mask = np.array([1, 0, 1], "float32")
    totals = task.initial_totals((None, 5, 6, 5))
    for labels, logits in batches:
        for name, value in task.eval_totals(tf.constant(labels), tf.constant(logits), tf.constant(mask)).items():
            totals[name] += value
    metrics = task.eval_metrics({name: value.numpy() for name, value in totals.items()}, {}, 6, None, "test")
    truth = np.concatenate([labels[mask > 0].ravel() for labels, _ in batches])
    predicted = np.concatenate([logits[mask > 0].argmax(-1).ravel() for _, logits in batches])
    truth, predicted = truth[truth != data.IGNORED], predicted[truth != data.IGNORED]
    iou = [
        ((truth == c) & (predicted == c)).sum() / ((truth == c) | (predicted == c)).sum()
        for c in range(5)
        if ((truth == c) | (predicted == c)).any()
    ]
    assert len(iou) == 4  # class 4 occurs neither in the labels nor in the predictions
    assert metrics["miou"] == pytest.approx(np.mean(iou), abs=1e-12)
    assert metrics["pixel_accuracy"] == pytest.approx((truth == predicted).mean(), abs=1e-12)
    assert totals["confusion"].dtype == tf.int64


def test_run_learns_and_keeps_the_best_checkpoint(workdir):
    lines = read_metrics(workdir)
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert losses[-1] < 0.8 * losses[0]
    values = [line["eval/miou"] for line in lines if "eval/miou" in line]
    best = checkpoints.read_best_info(workdir)
    assert (best["metric"], best["value"]) == ("miou", max(values))


def test_evaluation_counts_every_pixel_once(workdir, trained):
    config, source, model = trained
    evaluator = CheckpointEvaluator(config, workdir, connect(devices="cpu"), "test", batch_size=12)
    result = evaluator.evaluate(checkpoints.find_checkpoint(workdir, "newest"))
    assert result["examples"] == source.splits["test"] == 32
    settings = experiment.input_settings(config)
    assert settings.pop("crop_fraction") is None
    examples = list(source.dataset("test").as_numpy_iterator())
    images = data.eval_transform(np.stack([e["image"] for e in examples]), crop_fraction=None, **settings)
    truth, predicted = np.stack([e["label"] for e in examples]), np.argmax(model(images, training=False), -1)
    iou = [
        ((truth == c) & (predicted == c)).sum() / ((truth == c) | (predicted == c)).sum()
        for c in range(4)
        if ((truth == c) | (predicted == c)).any()
    ]
    assert result["miou"] == pytest.approx(np.mean(iou), abs=1e-3)
    assert evaluator.write(result).endswith(".json")


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


def test_initialization_from_the_weights_of_a_classifier(tmp_path):
    config = tiny.get_config("segmentation")
    overrides = experiment.model_arguments(config)
    classifier = models.create_model(config.model.name, 7, (32, 32, 3), **overrides)
    path = str(tmp_path / "backbone.weights.h5")
    models.save_weights(classifier, path, overrides)
    config.init.weights, config.init.freeze, config.epochs = path, ("stem_*", "block*"), 0.5
    config.model.overrides, config.model.operator = {}, {}  # the file's metadata has them
    config.ema_decay = None
    train(config, str(tmp_path / "run"), connect(devices="cpu"))
    config = load_config(str(tmp_path / "run"))
    model = experiment.build_model(config, 4)
    checkpoints.restore_weights(checkpoints.find_checkpoint(str(tmp_path / "run"), "newest"), model)
    for layer in classifier.layers:
        if layer.name.startswith(("stem_", "block")):
            for ours, theirs in zip(model.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True):
                np.testing.assert_array_equal(ours, theirs)


def test_initialization_with_another_number_of_classes_or_task(workdir):
    model = experiment.build_model(load_config(workdir), 7)
    initialization = Initialization(checkpoints.find_checkpoint(workdir, "newest"), {})
    message = load(initialization, model, 7, new_classifier=False)
    assert message.endswith("randomly initialized: segment_head_conv/kernel, segment_head_conv/bias")
    config = tiny.get_config("segmentation")
    classifier = models.create_model(config.model.name, 4, (16, 16, 3), **experiment.model_arguments(config))
    message = load(initialization, classifier, 4, new_classifier=False)
    assert message.endswith("randomly initialized: head_dense/kernel, head_dense/bias")
    before, after = model.get_layer("block0_1_conv"), classifier.get_layer("block0_1_conv")
    np.testing.assert_array_equal(before.get_weights()[0], after.get_weights()[0])


def test_accumulation_and_mixed_bfloat16(tmp_path):
    config = tiny.get_config("segmentation")
    config.gradient_accumulation_steps, config.precision, config.epochs = 2, "mixed_bfloat16", 1.0
    train(config, str(tmp_path / "run"), connect(devices="cpu"))
    assert np.isfinite([line["eval/miou"] for line in read_metrics(str(tmp_path / "run")) if "eval/miou" in line][-1])


def test_weights_of_another_network_are_refused(tmp_path):
    path = str(tmp_path / "other.weights.h5")
    overrides = {"width_coefficient": 0.125}
    models.save_weights(models.create_model("resnet18", 7, (32, 32, 3), **overrides), path, overrides)
    config = tiny.get_config("segmentation")
    config.init.weights = path
    with pytest.raises(ConfigError, match=r"'resnet18' .* 'lean_resnet18_cifar'"):
        train(config, str(tmp_path / "run"), connect(devices="cpu"))
    assert not (tmp_path / "run").exists()


def test_source_without_label_maps_is_refused():
    config = tiny.get_config()
    config.task = "segmentation"
    with pytest.raises(DataError, match="fake"):
        experiment.open_source(config)


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    config, source, _ = trained
    folder = str(tmp_path_factory.mktemp("export") / "saved_model")
    model = experiment.build_model(config, source.num_classes, precision="float32")
    model.set_weights(trained[2].get_weights())
    export_saved_model(model, folder, source.class_names, get_task(config), **experiment.input_settings(config))
    return tf.saved_model.load(folder), folder


def test_export_to_an_object_store_replaces_the_old_one_when_the_new_one_is_complete(trained, monkeypatch):
    config, source, model = trained
    folder = "ram://bucket/saved_model"  # TensorFlow's file system in memory

    def export():
        settings = experiment.input_settings(config)
        export_saved_model(model, folder, source.class_names, get_task(config), **settings)

    export()
    export()
    assert tf.io.gfile.listdir("ram://bucket") == ["saved_model"]
    with monkeypatch.context() as patch:
        patch.setattr(tf.io.gfile, "copy", _fail)
        with pytest.raises(UnavailableError, match="nothing was replaced"):
            export()
    with monkeypatch.context() as patch:
        patch.setattr(tf.io.gfile, "rmtree", _fail)
        with pytest.raises(UnavailableError, match="the complete SavedModel is in 'ram://"):
            export()
    (kept,) = [name for name in tf.io.gfile.listdir("ram://bucket") if name != "saved_model"]
    for name in (folder, f"ram://bucket/{kept}"):
        assert tf.io.gfile.exists(f"{name}/saved_model.pb")


def _fail(*arguments, **keywords):
    raise tf.errors.UnavailableError(None, None, "no network")


def test_exported_label_maps_have_the_size_of_the_images(trained, exported):
    config, _, model = trained
    images = np.random.default_rng(2).integers(0, 256, (2, 23, 40, 3), dtype=np.uint8)
    outputs = exported[0].signatures["images"](images=tf.constant(images))
    assert set(outputs) == {"classes", "probabilities"}
    assert outputs["classes"].shape == (2, 23, 40)
    assert outputs["classes"].dtype == tf.int32
    images = data.eval_transform(tf.constant(images), **experiment.input_settings(config))
    logits = tf.image.resize(model(images, training=False), (23, 40), method="bilinear")
    np.testing.assert_allclose(outputs["probabilities"], tf.nn.softmax(logits), atol=1e-4)
    np.testing.assert_allclose(outputs["classes"], np.argmax(outputs["probabilities"], -1))


def test_exported_model_takes_encoded_images(exported):
    images = np.random.default_rng(2).integers(0, 256, (2, 23, 40, 3), dtype=np.uint8)
    outputs = exported[0].signatures["images"](images=tf.constant(images))
    encoded = tf.stack([tf.io.encode_png(image) for image in images])
    from_bytes = exported[0].signatures["serving_default"](image_bytes=encoded)
    np.testing.assert_allclose(from_bytes["probabilities"], outputs["probabilities"], atol=1e-5)
    single = exported[0].signatures["serving_default"](image_bytes=encoded[1:])
    np.testing.assert_allclose(single["probabilities"][0], outputs["probabilities"][1], atol=1e-4)
    with open(f"{exported[1]}/assets/labels.txt") as file:
        assert file.read().splitlines() == ["background", "disc", "square", "triangle"]


def test_an_empty_batch_of_encoded_images(exported):
    outputs = exported[0].signatures["serving_default"](image_bytes=tf.zeros([0], tf.string))
    assert outputs["classes"].shape[0] == outputs["probabilities"].shape[0] == 0


def test_images_of_different_sizes_in_one_batch_are_refused(exported):
    images = [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)]
    encoded = tf.stack([tf.io.encode_png(image) for image in images])
    with pytest.raises(tf.errors.InvalidArgumentError, match="size"):
        exported[0].signatures["serving_default"](image_bytes=encoded)


def test_logits_at_the_size_of_each_image():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 6, 5, 4)).astype("float32")
    sizes = [(9, 12), (6, 5), (3, 7)]
    resized = resize_within(tf.constant(logits), tf.constant(sizes), (9, 12)).numpy()
    for image, result, size in zip(logits, resized, sizes, strict=True):
        expected = tf.image.resize(image, size, "bilinear")
        np.testing.assert_allclose(result[: size[0], : size[1]], expected, atol=1e-5)


def test_metrics_at_the_size_of_each_image():
    """The same as of labels and predictions that are cut to their images one by one."""
    labels, _ = _labels_and_logits()
    sizes = np.array([[5, 6], [4, 6], [5, 3]])
    for label, (height, width) in zip(labels, sizes, strict=True):
        label[height:], label[:, width:] = data.IGNORED, data.IGNORED
    small = np.random.default_rng(1).normal(size=(3, 3, 3, 5)).astype("float32")
    whole = np.full((3, 5, 6, 5), 7.0, np.float32)
    for index, (height, width) in enumerate(sizes):
        whole[index, :height, :width] = tf.image.resize(small[index], (height, width))
    mask = tf.constant([1.0, 1.0, 0.0])
    task = Segmentation(eval_size=(5, 6))
    as_dict = {"map": tf.constant(labels), "size": tf.constant(sizes, tf.int32)}
    totals = task.eval_totals(as_dict, tf.constant(small), mask)
    expected = Segmentation().eval_totals(tf.constant(labels), tf.constant(whole), mask)
    np.testing.assert_array_equal(totals["confusion"], expected["confusion"])
    np.testing.assert_allclose(totals["loss"], expected["loss"], rtol=1e-5)


def test_scales_and_mirror_images_are_averaged():
    """A network of one 1x1 convolution commutes with mirroring, and with scaling of a constant image."""
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(4, 1)(inputs))
    images = tf.random.stateless_uniform([2, 8, 6, 3], [0, 0])
    plain = tf.nn.softmax(Segmentation().predict(model, images)).numpy()
    mirrored = Segmentation(eval_flip=True).predict(model, images)
    np.testing.assert_allclose(tf.nn.softmax(mirrored), plain, atol=1e-5)
    scaled = Segmentation(eval_scales=(0.5, 1.0, 2.0)).predict(model, tf.ones([1, 8, 6, 3]))
    np.testing.assert_allclose(
        tf.nn.softmax(scaled), tf.nn.softmax(Segmentation().predict(model, tf.ones([1, 8, 6, 3]))), atol=1e-5
    )
    # The mean of probabilities, not of logits.
    shifted = keras.Model(inputs, keras.layers.Conv2D(4, (1, 3), padding="same")(inputs))
    both = [tf.nn.softmax(Segmentation().predict(shifted, x)) for x in (images, images[:, :, ::-1])]
    expected = (both[0] + both[1][:, :, ::-1]) / 2
    np.testing.assert_allclose(
        tf.nn.softmax(Segmentation(eval_flip=True).predict(shifted, images)), expected, atol=1e-5
    )


def test_folder_of_masks_from_training_to_drawing(tmp_path):
    """As a user does: images of different sizes with index PNGs, evaluation at their own size, export, drawing."""
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for index in range(24):
        height, width = rng.integers(28, 33, 2)
        mask = np.zeros((height, width, 1), np.uint8)
        mask[:, width // 2 :] = 1
        image = np.where(mask > 0, [220, 60, 60], [40, 40, 160]).astype(np.uint8)
        for kind, array in (("images", image), ("masks", mask)):
            (tmp_path / kind / f"{index}.png").write_bytes(tf.io.encode_png(array).numpy())
    (tmp_path / "masks" / "labels.txt").write_text("left\nright\n")
    config = tiny.get_config("segmentation")
    config.data.source = f"masks:{tmp_path}/images,{tmp_path}/masks"
    config.data.train_split, config.data.eval_split = "train[:16]", "train[16:]"
    config.data.crop_area, config.data.scale_jitter, config.data.flip = None, (0.5, 1.5), False
    config.segmentation.eval_size = (32, 32)
    config.batch_size, config.epochs, config.optimizer.learning_rate = 8, 20.0, 0.05
    config.schedule.name = "poly"
    config.eval_every_epochs = 20.0
    workdir = str(tmp_path / "run")
    train(config, workdir, connect(devices="cpu"))
    evaluated = run(
        "eval.py", f"--workdir={workdir}", "--checkpoint=newest", "--override=config.segmentation.eval_flip=True"
    )
    assert evaluated.returncode == 0, evaluated.stderr
    evaluator = CheckpointEvaluator(load_config(workdir), workdir, connect(devices="cpu"))
    result = evaluator.evaluate("newest")
    assert result["miou"] > 0.8
    # The SavedModel returns classes at the size of each image: the metric again, counted by hand.
    folder = str(tmp_path / "saved_model")
    exported = run("scripts/export.py", f"--workdir={workdir}", "--checkpoint=newest", f"--output={folder}")
    assert exported.returncode == 0, exported.stderr
    served = tf.saved_model.load(folder).signatures["serving_default"]
    confusion = np.zeros((2, 2))
    for example in experiment.open_source(load_config(workdir)).dataset("train[16:]").as_numpy_iterator():
        classes = served(image_bytes=tf.constant([example["image"]]))["classes"][0].numpy()
        np.add.at(confusion, (example["label"].ravel(), classes.ravel()), 1)
    union = confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
    # The gray around the images of a batch changes global averages.
    assert np.mean(confusion.diagonal() / union) == pytest.approx(result["miou"], abs=0.05)
    drawn = run(
        "scripts/draw_segmentation.py", f"--workdir={workdir}", "--checkpoint=newest", f"--output={tmp_path}/a.png"
    )
    assert drawn.returncode == 0, drawn.stderr
    small = "--override=config.segmentation.eval_size=(16,16)"
    assert "an image is larger than eval_size=(16, 16)" in usage_error(
        run("eval.py", f"--workdir={workdir}", "--checkpoint=newest", small)
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"segmentation.eval_size": (16_384, 16_384)}, "pixels in evaluation"),
        ({"segmentation.filters": 10**6, "segmentation.eval_size": (16, 16), "data.scale_jitter": (0.5, 2.0)}, "GB"),
    ],
)
def test_too_large_for_the_memory(fields, message):
    config = tiny.get_config("segmentation")
    config.data.crop_area = None
    for name, value in fields.items():
        section, field = name.split(".")
        config[section][field] = value
    with pytest.raises(ConfigError, match=message):
        check_memory(config, 4, eval_batch_size=16, trains=True)


@pytest.mark.parametrize("fields", [{"task": "classification"}, {"data.crop_area": (0.5, 1.0)}])
def test_scale_jitter_needs_label_maps_and_no_other_crop(fields):
    config = tiny.get_config("segmentation")
    config.data.crop_area, config.data.scale_jitter, config.segmentation.eval_size = None, (0.5, 2.0), (32, 32)
    validate(config, 1)
    for name, value in fields.items():
        *section, field = name.split(".")
        (config[section[0]] if section else config)[field] = value
    with pytest.raises(ConfigError, match="scale_jitter"):
        validate(config, 1)
