"""Weights of keras.applications: our networks compute the same logits, from both kinds of .h5 files."""

import h5py
import keras
import numpy as np
import pytest

from convzoo import models
from convzoo.errors import ModelError
from convzoo.porting import import_weights

APPLICATIONS = {
    "mobilenet_v1_x0_25": ("MobileNet", {"alpha": 0.25}),
    "mobilenet_v2_x1_0": ("MobileNetV2", {}),
    "efficientnet_b0": ("EfficientNetB0", {}),
}


def _application(name, classes=5):
    """Returns a network of keras.applications with random weights and statistics."""
    builder, arguments = APPLICATIONS[name]
    keras.utils.set_random_seed(0)
    build = getattr(keras.applications, builder)
    model = build(input_shape=(64, 64, 3), weights=None, classes=classes, classifier_activation=None, **arguments)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.path.endswith(("moving_mean", "beta", "bias")):
            weight.assign(rng.normal(size=weight.shape, scale=0.1))
        elif weight.path.endswith("moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, size=weight.shape))
    return model


def _save(model, path, kind):
    """Writes a whole model, or its weights in the format of the files that Keras downloads."""
    if kind == "model":
        model.save(path)
        return
    model.save(f"{path}.model.h5")
    with h5py.File(f"{path}.model.h5") as whole, h5py.File(path, "w") as file:
        for name, value in whole["model_weights"].attrs.items():
            file.attrs[name] = value
        for name in whole["model_weights"]:
            whole.copy(f"model_weights/{name}", file)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("kind", ["model", "weights"])
@pytest.mark.parametrize("name", APPLICATIONS)
def test_logits_equal_those_of_keras(name, kind, tmp_path):
    original = _application(name)
    path = str(tmp_path / "a.h5")
    _save(original, path, kind)
    imported = import_weights("keras", path, name)
    assert imported.num_classes == 5
    assert (imported.num_ignored > 0) == (name == "efficientnet_b0")  # normalization of the images
    pixels = np.random.default_rng(1).uniform(0, 255, (2, 64, 64, 3)).astype("float32")
    preprocessing = models.info(name).preprocessing
    mean, std = preprocessing.mean, preprocessing.std
    if imported.preprocessing:
        mean, std = imported.preprocessing["mean"], imported.preprocessing["std"]
    ours = models.create_model(name, 5, (64, 64, 3))
    ours.set_weights(imported.model.get_weights())
    x = (pixels - np.array(mean, "float32")) / np.array(std, "float32")
    # Without downloaded weights the statistics inside the EfficientNets are mean 0 and variance 1, of pixels / 255.
    theirs = original(x * 255 if name == "efficientnet_b0" else pixels / 127.5 - 1)
    np.testing.assert_allclose(ours(x), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_unsuitable_files(tmp_path):
    model = _application("mobilenet_v1_x0_25")
    model.save_weights(tmp_path / "a.weights.h5")
    (tmp_path / "b.h5").write_text("text")
    model.save(tmp_path / "c.h5")
    for file, name, message in (
        ("a.weights.h5", "mobilenet_v1_x0_25", "names of layers"),
        ("b.h5", "mobilenet_v1_x0_25", "damaged"),
        ("c.h5", "mobilenet_v1_x0_5", "do not fit"),
        ("c.h5", "resnet50", "no weights for resnet50"),
        ("none.h5", "mobilenet_v1_x0_25", "does not exist"),
        ("a.keras", "mobilenet_v1_x0_25", r"\.h5"),
    ):
        with pytest.raises(ModelError, match=message) as caught:
            import_weights("keras", str(tmp_path / file), name)
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="--ema"):
        import_weights("keras", str(tmp_path / "c.h5"), "mobilenet_v1_x0_25", ema=True)
