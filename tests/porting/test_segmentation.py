"""With the weights of torchvision's DeepLabv3 our segmenter computes its logits."""

import keras
import numpy as np
import pytest
from goldens import stand_in
from safetensors.numpy import save_file

from convzoo.errors import ModelError
from convzoo.porting import import_deeplabv3

GOLDEN = "torchvision_deeplabv3_resnet50"
STEP = 8  # every eighth logit is stored, see goldens/make_deeplab.py


def test_logits(tmp_path):
    save_file(stand_in.load(GOLDEN), tmp_path / "a.safetensors")
    model = import_deeplabv3(str(tmp_path / "a.safetensors"))
    logits = keras.ops.convert_to_numpy(model(stand_in.images(GOLDEN), training=False))
    np.testing.assert_allclose(logits[:, ::STEP, ::STEP], stand_in.logits(GOLDEN), rtol=1e-4, atol=1e-3)


def test_another_file(tmp_path):
    weights = stand_in.load(GOLDEN)
    save_file({"fc.weight": np.ones((3, 4), "float32")}, tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match=r"has no classifier\.4\.weight"):
        import_deeplabv3(str(tmp_path / "a.safetensors"))
    del weights["backbone.layer1.0.conv1.weight"]
    save_file(weights, tmp_path / "b.safetensors")
    with pytest.raises(ModelError, match="block0_1_conv/kernel"):
        import_deeplabv3(str(tmp_path / "b.safetensors"))
