"""Embedders: outputs, backbone weights, sizes and errors."""

import numpy as np
import pytest

from convzoo import models
from convzoo.errors import ModelError
from convzoo.models.weights import head_prefix

SMALL = {"stages": ((2, 8, 1, 2), (2, 16, 1, 2)), "width_coefficient": 0.25, "embedding_filters": 8}


def test_outputs_and_weights_of_the_backbone(tmp_path):
    path = str(tmp_path / "net.weights.h5")
    classifier = models.create_model("mobile_facenet", 7, (32, 32, 3), **SMALL)
    models.save_weights(classifier, path, SMALL)
    model = models.create_embedder("mobile_facenet", 5, (32, 32, 3), path, **SMALL)
    backbone = models.create_model("mobile_facenet", 7, (32, 32, 3), path, include_top=False, **SMALL)
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    outputs = {name: np.asarray(values) for name, values in model(images, training=False).items()}
    np.testing.assert_allclose(outputs["embeddings"], np.asarray(backbone(images))[:, 0, 0], rtol=1e-5)
    kernel = np.asarray(model.get_layer("embed_classes").kernel)
    norms = np.linalg.norm(outputs["embeddings"], axis=1)[:, np.newaxis] * np.linalg.norm(kernel, axis=0)
    np.testing.assert_allclose(outputs["cosines"], outputs["embeddings"] @ kernel / norms, atol=1e-5)
    assert head_prefix(model) == "embed_"
    with pytest.raises(ModelError, match="embedder is no network of create_model"):
        models.save_weights(model, path)


def test_any_network_with_a_linear_layer():
    model = models.create_embedder("mobilenet_v1_x0_25", 5, (64, 64, 3), embedding_size=16, operator=models.DRConv())
    assert {name: tuple(x.shape) for name, x in model.output.items()} == {
        "embeddings": (None, 16),
        "cosines": (None, 5),
    }
    assert any(type(layer).__name__ == "DRConv2D" for layer in model.layers)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "num_classes must be an integer of at least 1, not 0"),
        ({"num_classes": True}, "not True"),
        ({"num_classes": 3, "embedding_size": 2.5}, "embedding_size must be an integer of at least 1, not 2.5"),
        ({"num_classes": 3, "features": True}, "features cannot be overridden"),
        ({"num_classes": 3, "input_shape": (None, None, 3)}, "unknown height or width"),
    ],
)
def test_invalid_arguments(arguments, message):
    with pytest.raises(ModelError, match=message):
        models.create_embedder("mobile_facenet", **arguments)
