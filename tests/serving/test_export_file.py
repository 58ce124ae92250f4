"""Networks of every family as LiteRT, ONNX and Keras files: the same outputs, any batch size, bad input."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import tiny

from convzoo import models, serving
from convzoo.errors import ConfigError, ModelError, UnavailableError
from convzoo.layers import get_target
from convzoo.serving import export_file, model_file
from convzoo.tasks import TASKS, get_task
from convzoo.training import experiment

SETTINGS = {
    "image_size": (16, 16),
    "mean": (100.0, 110.0, 120.0),
    "std": (50.0, 60.0, 70.0),
    "crop_fraction": 0.5,
    "interpolation": "bilinear",
}
ARGUMENTS = {"num_classes": 3, "input_shape": (16, 16, 3), "stem_strides": 1, "dropout_rate": 0.0}
BLOCKS = {"blocks": ((32, 2),)}
NETWORKS = {
    "CondConv": ("mobilenet_v1_x0_25", {**BLOCKS, "operator": models.CondConv(2, classifier=True)}),
    "DRConv": ("mobilenet_v1_x0_25", {**BLOCKS, "operator": models.DRConv(regions=3, bank_size=2)}),
    "Seesaw": ("seesawnet_shuffle_0_5d", {"stages": ((1, 16, 1, 2),)}),
    "Lean": ("resnet18", {"repeats": (1,), "width_coefficient": 0.125, "operator": models.Lean(group_size=4)}),
}
FORMATS = ["litert", "litert float16", "litert int8", "onnx", "keras"]
IMAGES = serving.generated_images(9, (16, 16))


@functools.cache
def network(family):
    name, overrides = NETWORKS[family]
    keras.utils.set_random_seed(1)
    return models.create_model(name, **ARGUMENTS, **overrides)


def export(model, path, **arguments):
    return serving.export_model_file(model, str(path), list("abc"), TASKS["classification"], **arguments)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("family", NETWORKS)
def test_every_family_in_every_format(family, form, tmp_path):
    kind, _, quantize = form.partition(" ")
    quantize = quantize or "none"
    path = str(tmp_path / f"a{serving.SUFFIXES[kind]}")
    model = network(family)
    parity = export(
        model, path, images=IMAGES, quantize=quantize, calibration_images=IMAGES, min_agreement=0.5, **SETTINGS
    )
    assert get_target() == "cpu"
    assert parity.num_images == len(IMAGES)
    assert parity.relative["logits"] < {"none": 1e-4, "float16": 0.01, "int8": 0.2}[quantize]
    assert (parity.relative["logits"] > 1e-4) == (quantize != "none")

    loaded = serving.load_model_file(path)
    assert (loaded.metadata["format"], loaded.metadata["quantize"]) == (kind, quantize)
    assert loaded.metadata["class_names"] == list("abc")
    outputs = loaded(IMAGES[:3])
    expected = model((IMAGES[:3].astype(np.float32) - SETTINGS["mean"]) / SETTINGS["std"], training=False)
    assert np.abs(outputs["logits"] - expected).max() <= parity.largest["logits"] * 2 + 1e-5
    assert np.abs(outputs["logits"] - expected[::-1]).max() > 0.01  # the images have different logits
    np.testing.assert_allclose(loaded(IMAGES[:1])["logits"], outputs["logits"][:1], rtol=1e-4, atol=1e-5)
    if kind != "keras":
        assert outputs["classes"].tolist() == outputs["probabilities"].argmax(-1).tolist()
        assert set(outputs) == {"classes", "logits", "probabilities"}


_OFTEN = {("detection", "litert"), ("verification", "onnx")}


@pytest.mark.parametrize(
    ("task", "form"),
    [
        pytest.param(task, form, marks=[] if (task, form) in _OFTEN else [pytest.mark.slow])
        for task in ("segmentation", "detection", "verification")
        for form in ("litert", "onnx", "keras")
    ],
)
def test_other_tasks(task, form, tmp_path):
    config = tiny.get_config(task)
    if task == "segmentation":
        with config.unlocked():
            config.segmentation.eval_flip = True
    keras.utils.set_random_seed(0)
    model = experiment.build_model(config, 3)
    settings = experiment.input_settings(config)
    images = serving.generated_images(2, settings["image_size"])
    path = str(tmp_path / f"a{serving.SUFFIXES[form]}")
    serving.export_model_file(model, path, list("abc"), get_task(config), images=images, **settings)
    outputs = serving.load_model_file(path)(images)
    size = config.model.image_size
    shapes = {name: value.shape for name, value in outputs.items()}
    if form == "keras":
        raw = {"segmentation": {"logits"}, "detection": {"anchors", "boxes", "classes"}}
        assert set(shapes) == raw.get(task, {"cosines", "embeddings"})
    elif task == "segmentation":
        assert shapes == {"classes": (2, size, size), "probabilities": (2, size, size, 3)}
    elif task == "detection":
        assert shapes["boxes"][::2] == (2, 4)
        assert shapes["scores"] == (*shapes["boxes"][:2], 3)
        assert 1 < outputs["boxes"].max() <= size
    else:
        np.testing.assert_allclose(np.linalg.norm(outputs["embeddings"], axis=-1), 1.0, rtol=1e-4)


def test_a_keras_file_loads_in_keras(tmp_path):
    model = network("DRConv")
    export(model, tmp_path / "a.keras", images=IMAGES, **SETTINGS)
    loaded = keras.models.load_model(tmp_path / "a.keras")
    expected = model((IMAGES.astype(np.float32) - SETTINGS["mean"]) / SETTINGS["std"], training=False)
    np.testing.assert_allclose(loaded(IMAGES), expected, rtol=1e-4, atol=1e-5)


def test_an_onnx_file_names_opset_and_batch(tmp_path):
    import onnx

    export(network("Lean"), tmp_path / "a.onnx", images=IMAGES, **SETTINGS)
    converted = onnx.load(tmp_path / "a.onnx")
    versions = {entry.domain: entry.version for entry in converted.opset_import}
    assert versions[""] == export_file.ONNX_OPSET == serving.load_model_file(str(tmp_path / "a.onnx")).metadata["opset"]
    (given,) = converted.graph.input
    dimensions = [entry.dim_param or entry.dim_value for entry in given.type.tensor_type.shape.dim]
    assert (given.name, dimensions) == ("images", ["batch", 16, 16, 3])


def test_images_are_decoded_cropped_and_resized_as_in_evaluation(tmp_path):
    from convzoo import data

    export(network("Lean"), tmp_path / "a.tflite", images=IMAGES, **SETTINGS)
    loaded = serving.load_model_file(str(tmp_path / "a.tflite"))
    image = serving.generated_images(1, (40, 60))[0]
    expected = data.eval_transform(image, **{**SETTINGS, "mean": (0.0,) * 3, "std": (1.0,) * 3})
    decoded = loaded.decode(tf.io.encode_png(image))
    assert decoded.dtype == np.uint8
    np.testing.assert_allclose(decoded, expected, atol=0.5001)
    with pytest.raises(tf.errors.InvalidArgumentError, match="not an image"):
        loaded.decode(b"text")


def _altered(outputs):
    return {name: value + 0.5 if name == "logits" else value for name, value in outputs.items()}


def _swapped(outputs):
    return {name: value[::-1] for name, value in outputs.items()}


def _not_finite(outputs):
    return {name: value * np.nan if value.dtype == np.float32 else value for name, value in outputs.items()}


@pytest.mark.parametrize("alter", [_altered, _swapped, _not_finite])
def test_nothing_is_written_if_the_outputs_differ(alter, tmp_path, monkeypatch):
    load = model_file.load_model_file

    def load_altered(path):
        loaded = load(path)
        return lambda images: alter(loaded(images))

    monkeypatch.setattr(export_file, "load_model_file", load_altered)
    path = tmp_path / "a.keras"
    with pytest.raises(ModelError, match=r"the exported model differs from the network: .* of logits, above"):
        export(network("Lean"), path, images=IMAGES, **SETTINGS)
    assert not list(tmp_path.iterdir())
    path.write_bytes(b"old")
    with pytest.raises(ConfigError, match=r"a\.keras' would be replaced but has no settings of convzoo"):
        export(network("Lean"), path, images=IMAGES, **SETTINGS)
    assert path.read_bytes() == b"old"


def test_a_saved_model_is_compared_too(tmp_path):
    model, folder = network("Lean"), tmp_path / "saved_model"
    arguments = [model, str(folder), list("abc"), TASKS["classification"]]
    with pytest.raises(ModelError, match="the exported model differs from the network"):
        serving.export_saved_model(*arguments, images=IMAGES, min_agreement=1.1, **SETTINGS)
    assert not list(tmp_path.iterdir())
    parity = serving.export_saved_model(*arguments, images=IMAGES, **SETTINGS)
    assert (parity.num_images, parity.top1) == (len(IMAGES), 1.0)
    assert folder.is_dir()


def test_a_network_that_cannot_be_converted(tmp_path):
    images = keras.Input((16, 16, 3))
    model = keras.Model(images, keras.layers.Dense(3)(keras.ops.fft2((images[..., 0], images[..., 0]))[0][:, 0]))
    for suffix in (".tflite", ".onnx"):
        with pytest.raises(ModelError, match="cannot be converted to"):
            export(model, tmp_path / f"a{suffix}", images=IMAGES, **SETTINGS)
    assert not list(tmp_path.iterdir())


def test_bad_arguments(tmp_path):
    model = network("Lean")
    for name, arguments, message in (
        ("a.onnx", {"quantize": "int8"}, "quantize=int8 applies to litert, not to onnx"),
        ("a.tflite", {"quantize": "int4"}, "quantize='int4' is unknown"),
        ("a.tflite", {"quantize": "int8"}, "calibration_images"),
        ("a.pb", {}, r"must end with \.tflite, \.onnx, \.keras"),
        ("a[1].onnx", {}, "pattern"),
    ):
        with pytest.raises(ConfigError, match=message):
            export(model, tmp_path / name, images=IMAGES, **arguments, **SETTINGS)
    (tmp_path / "b.keras").mkdir()
    with pytest.raises(ConfigError, match="not a regular file"):
        export(model, tmp_path / "b.keras", images=IMAGES, **SETTINGS)
    with pytest.raises(UnavailableError, match="cannot write to '/proc/nothing"):
        export(model, "/proc/nothing/a.keras", images=IMAGES, **SETTINGS)


def test_bad_files(tmp_path, monkeypatch):
    path = tmp_path / "a.tflite"
    with pytest.raises(ModelError, match="cannot read"):
        serving.load_model_file(str(path))
    path.write_bytes(b"text")
    with pytest.raises(ModelError, match="has no settings of convzoo"):
        serving.load_model_file(str(path))
    model_file.add_metadata(str(path), {"task": "classification"})
    with pytest.raises(ModelError, match=r"has no settings of convzoo .KeyError: 'format'"):
        serving.load_model_file(str(path))
    path.write_bytes(b"text")
    model_file.add_metadata(str(path), dict.fromkeys(model_file._REQUIRED))
    with pytest.raises(ModelError, match="cannot load"):
        serving.load_model_file(str(path))
    with pytest.raises(ConfigError, match="must end with"):
        serving.load_model_file(str(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"onnxruntime is missing .*pip install 'convzoo\[onnx\]'"):
        model_file.require("onnxruntime", "onnx")
