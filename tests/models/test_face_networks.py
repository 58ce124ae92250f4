"""Networks for faces: published sizes, embeddings, uneven groups, and sizes of images that do not fit."""

import keras
import numpy as np
import pytest
from keras import ops

from convzoo import models
from convzoo.errors import ModelError

pytestmark = pytest.mark.graphs


# SeesawFaceNet: 1.370 M and 145.77 M by the operation counter of its author; MobileFaceNet: its paper.
@pytest.mark.parametrize(
    ("name", "params", "madds", "channels", "rel"),
    [
        ("mobile_facenet", 0.99e6, 221e6, 128, 0.02),
        ("seesaw_facenet", 1.370e6, 145.77e6, 512, 1e-3),
        ("seesaw_facenet_share", 1.370e6, 145.77e6, 512, 1e-3),
    ],
)
def test_published_size(name, params, madds, channels, rel):
    model = models.create_model(name, include_top=False)
    size = models.count(model)
    assert size.params == pytest.approx(params, rel=rel)
    assert size.madds == pytest.approx(madds, rel=1e-3)
    assert (model.input_shape, model.output_shape) == ((None, 112, 112, 3), (None, 1, 1, channels))


def test_layers_of_mobile_facenet():
    model = models.create_model("mobile_facenet", 10, (112, 96, 3))
    assert model.get_layer("head_global_conv").kernel.shape == (7, 6, 512, 1)
    slopes = [layer for layer in model.layers if isinstance(layer, keras.layers.PReLU)]
    assert len(slopes) == 2 + 2 * 15 + 1  # stem, two in each block, head; linear layers have none
    assert {tuple(layer.alpha.shape[:2]) for layer in slopes} == {(1, 1)}
    assert np.all(ops.convert_to_numpy(slopes[0].alpha) == 0.25)
    assert model.output_shape == (None, 10)


def test_operators():
    model = models.create_model("mobile_facenet_drconv", 3, (32, 32, 3), width_coefficient=0.25)
    kinds = {layer.name: type(layer).__name__ for layer in model.layers}
    assert kinds["block3_expand_conv"] == kinds["block3_project_conv"] == "DRConv2D"
    assert kinds["head_embedding_conv"] == "Conv2D"
    model = models.create_model("seesaw_facenet", 3, (32, 32, 3))
    groups = [layer for layer in model.layers if type(layer).__name__ == "UnevenPointwiseConv2D"]
    assert len(groups) == 30
    outputs = model(np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32"), training=True)
    assert np.all(np.isfinite(ops.convert_to_numpy(outputs)))


def test_unknown_sizes_are_refused():
    with pytest.raises(ModelError, match=r"\(None, None, 3\)"):
        models.create_model("mobile_facenet", 3, (None, None, 3))
