"""Region maps and routing weights of a network, during training and of a checkpoint."""

import numpy as np
import pytest
import tensorflow as tf
from helpers import tiny
from helpers.programs import TINY, run

from convzoo.models import save_weights
from convzoo.tasks.drawing import draw_label_maps, first_images
from convzoo.training import experiment
from convzoo.training.checkpoints import find_checkpoint, restore_weights
from convzoo.training.devices import connect
from convzoo.training.inspection import RegionMaps, RoutingWeights, draw_by_class, routing_messages
from convzoo.training.loop import train
from convzoo.training.metrics import read_metrics
from convzoo.training.workdir import load_config


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Workdir of a run on two replicas. It has its own process, because TensorFlow cannot add devices later."""
    workdir = str(tmp_path_factory.mktemp("run"))
    result = run("train.py", f"--config={TINY}:regions", f"--workdir={workdir}", "--devices=cpu:2")
    assert result.returncode == 0, result.stderr
    return workdir


def _tensorboard_values(workdir):
    """Returns {tag: [(step, tensor)]} of the TensorBoard files."""
    values = {}
    for path in tf.io.gfile.glob(f"{workdir}/tensorboard/*"):
        for event in tf.compat.v1.train.summary_iterator(path):
            for value in event.summary.value:
                values.setdefault(value.tag, []).append((event.step, tf.make_ndarray(value.tensor)))
    return values


def test_tensorboard_has_region_maps_and_shares(workdir):
    values = _tensorboard_values(workdir)
    for block in ("block0", "block1"):
        shares = np.array([[share for _, share in values[f"regions/{block}/{r}"]] for r in range(3)])
        np.testing.assert_allclose(shares.sum(0), np.ones(3), atol=1e-6)
        assert [step for step, _ in values[f"regions/{block}/0"]] == [9, 18, 24]
    assert "regions/block0/3" not in values
    width, height, png = values["regions"][-1][1][:3]
    image = tf.io.decode_png(png).numpy()
    assert image.shape == (int(height), int(width), 3)
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 3
    assert not any("regions" in key for line in read_metrics(workdir) for key in line)


def test_region_maps_and_shares(workdir):
    config = load_config(workdir)
    source, settings = experiment.open_source(config), experiment.input_settings(config)
    model = experiment.build_model(config, source.num_classes)
    restore_weights(find_checkpoint(workdir, "newest"), model)
    region_maps = RegionMaps(model, tf.distribute.get_strategy())
    images, _ = first_images(source, config.data.eval_split, 5, **settings)
    assert images.shape == (5, 16, 16, 3)
    maps = region_maps(images)
    assert {name: block_maps.shape for name, block_maps in maps.items()} == {
        "block0": (5, 16, 16),
        "block1": (5, 16, 16),
    }
    kernel = model.get_layer("block0_mask").kernel.numpy()[0, 0]
    features = tf.keras.Model(model.inputs, model.get_layer("block0_mask").input)(images).numpy()
    np.testing.assert_array_equal(maps["block0"], (features @ kernel).argmax(-1))
    shares = region_maps.shares({"block0": np.array([[0, 0, 2, 0]]), "block1": np.array([[1]])})
    np.testing.assert_array_equal(shares["block0"], [[0.75, 0, 0.25]])
    np.testing.assert_array_equal(shares["block1"], [[0, 1, 0]])


def test_first_images_of_a_short_split():
    config = tiny.get_config()
    source, settings = experiment.open_source(config), experiment.input_settings(config)
    assert len(first_images(source, "train[:3]", 16, **settings)[0]) == 3


def test_drawing_has_one_color_per_region():
    maps = {"block0": np.arange(12).reshape(1, 3, 4), "block1": np.zeros((1, 2, 2), int)}
    png = draw_label_maps(np.zeros((1, 8, 8, 3)), maps, {"block0": 12, "block1": 2}, mean=[127.5] * 3, std=[127.5] * 3)
    image = tf.io.decode_png(png, channels=3).numpy().reshape(-1, 3)
    colors, counts = np.unique(image, axis=0, return_counts=True)
    # 12 regions, one region of the second map, the gray image and the white background.
    assert sum(counts > 150) == 12 + 1 + 2
    assert (colors[counts > 150] >= 127).all(axis=1).any()


def test_dominant_region_is_reported(workdir, tmp_path, capsys):
    config = tiny.get_config("regions")
    model = experiment.build_model(config, 4)
    model.get_layer("block1_mask").kernel.assign(np.zeros((1, 1, 2, 3)))
    path = str(tmp_path / "uniform_mask.weights.h5")
    save_weights(model, path, config.model.overrides.to_dict())
    config.init.weights = path
    config.init.freeze = ("*_mask",)
    config.epochs = 1.0
    train(config, str(tmp_path / "run"), connect(devices="cpu"))
    messages = [line for line in capsys.readouterr().out.splitlines() if "99%" in line]
    assert len(messages) == 1
    assert "block1" in messages[0]


@pytest.fixture(scope="module")
def routed_workdir(tmp_path_factory):
    """Workdir of a run with CondConv in which block 3 has routing weights that are the same for all images."""
    folder = tmp_path_factory.mktemp("routed")
    config = tiny.get_config()
    model = experiment.build_model(config, 4)
    for weight in model.get_layer("block3_routing").weights:
        weight.assign(np.zeros(weight.shape))
    model.get_layer("block3_routing").bias.assign([2.0, -20.0])
    path = str(folder / "initial.weights.h5")
    save_weights(model, path, {**config.model.overrides.to_dict(), "operator": config.model.operator.to_dict()})
    config.init.weights, config.init.freeze, config.epochs = path, ("block3_routing",), 1.0
    train(config, str(folder / "run"), connect(devices="cpu"))
    return str(folder / "run")


def test_tensorboard_has_routing_weights(routed_workdir):
    values = _tensorboard_values(routed_workdir)
    tags = {tag for tag in values if tag.startswith("routing")}
    blocks = ("block2", "block3")
    assert tags == {"routing", *(f"routing/{block}/{part}" for block in blocks for part in ("0", "1", "deviation"))}
    np.testing.assert_allclose(values["routing/block3/0"][-1][1], 1 / (1 + np.exp(-2)), rtol=1e-5)
    assert values["routing/block3/deviation"][-1][1] < 1e-6
    assert 0 < values["routing/block2/deviation"][-1][1] < 0.5
    assert tf.io.decode_png(values["routing"][-1][1][2]).shape[-1] == 3


def test_routing_weights_of_the_layers(routed_workdir):
    config = load_config(routed_workdir)
    source, settings = experiment.open_source(config), experiment.input_settings(config)
    model = experiment.build_model(config, source.num_classes)
    restore_weights(find_checkpoint(routed_workdir, "newest"), model)
    images, _ = first_images(source, config.data.eval_split, 19, **settings)
    weights = RoutingWeights(model, tf.distribute.get_strategy())(images)
    routing = model.get_layer("block2_routing")
    features = tf.keras.Model(model.inputs, routing.input)(images).numpy().mean((1, 2))
    expected = 1 / (1 + np.exp(-(features @ routing.kernel.numpy() + routing.bias.numpy())))
    np.testing.assert_allclose(weights["block2"], expected, rtol=1e-4)


def test_messages_about_experts():
    varied = np.random.default_rng(0).uniform(0.2, 0.8, (10, 3))
    assert routing_messages({"a": varied}) == []
    unused = varied * [1, 0.001, 1]
    messages = routing_messages({"a": unused, "b": varied, "c": np.full((10, 3), 0.5)})
    assert len(messages) == 2
    assert "1 of a" in messages[0]
    assert "routing weights of c are" in messages[1]


def test_messages_in_the_log(tmp_path, routed_workdir, capsys):
    config = load_config(routed_workdir).copy_and_resolve_references()
    train(config, str(tmp_path / "again"), connect(devices="cpu"))
    output = capsys.readouterr().out
    assert "1 of block3" in output
    assert "routing weights of block3 are the same for all images" in output


def test_drawing_by_class():
    """A cell for each class that the images have."""
    source = experiment.open_source(tiny.get_config())
    values, labels = {"block0": np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])}, np.array([0, 0, 3])
    image = tf.io.decode_png(draw_by_class(values, labels, source), channels=3).numpy().reshape(-1, 3)
    _, counts = np.unique(image, axis=0, return_counts=True)
    largest = counts[np.argsort(-counts)][:3]  # white and the two ends of the scale
    assert abs(largest[1] - largest[2]) < 0.05 * largest[1]
