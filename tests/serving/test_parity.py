"""The comparison of outputs, and the images for it."""

import numpy as np
import pytest

from convzoo import data, serving
from convzoo.errors import DataError, ModelError
from convzoo.serving.parity import LIMITS, compare

LOGITS = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [0.0, 1.0]], np.float32)


def test_equal_outputs():
    parity = compare({"logits": LOGITS}, {"logits": LOGITS})
    assert (parity.num_images, parity.largest, parity.relative, parity.top1) == (4, {"logits": 0}, {"logits": 0}, 1.0)
    parity.check("none")
    zeros = np.zeros_like(LOGITS)
    compare({"logits": zeros}, {"logits": zeros}).check("none")


def test_differences():
    other = LOGITS.copy()
    other[0] = [0.0, 1.0]
    parity = compare({"logits": LOGITS}, {"logits": other})
    assert parity.top1 == 0.75
    assert parity.largest["logits"] == 1.0
    assert parity.relative["logits"] == pytest.approx(np.sqrt(2 / 7))
    assert "4 images: top-1 agreement 75.00%, largest difference of logits 1.0e+00" in str(parity)
    for quantize, (tolerance, min_agreement) in LIMITS.items():
        with pytest.raises(ModelError, match=f"above the tolerance {tolerance}"):
            parity.check(quantize)
        with pytest.raises(ModelError, match=f"top-1 agreement 75.00%, below the minimum {min_agreement:.2%}"):
            parity.check(quantize, tolerance=0.6)
        parity.check(quantize, tolerance=0.6, min_agreement=0.75)


def test_classes_of_other_outputs():
    classes = np.array([[0, 1], [2, 2]])
    assert compare({"classes": classes, "scores": LOGITS}, {"classes": classes.T, "scores": LOGITS}).top1 == 0.5
    # Those of a detector are logits of the anchors.
    assert compare({"classes": LOGITS}, {"classes": LOGITS}).top1 is None


@pytest.mark.parametrize("outputs", [{"logits": LOGITS[:, :1]}, {"other": LOGITS}, {}])
def test_other_names_and_shapes(outputs):
    with pytest.raises(ModelError, match="the exported model has the outputs"):
        compare({"logits": LOGITS}, outputs)


def test_sampled_images_are_spread_over_the_split():
    source = data.open_source("fake:classes=3,size=8,examples=12")
    settings = {"image_size": (8, 8), "crop_fraction": 1.0, "interpolation": "bilinear"}
    every = np.stack([example["image"] for example in source.dataset("train")])
    sampled = serving.sample_images(source, "train", 4, mean=(9.0,) * 3, std=(2.0,) * 3, **settings)
    np.testing.assert_array_equal(sampled, every[::3])
    assert len(serving.sample_images(source, "train", 100, **settings)) == 12
    with pytest.raises(DataError, match="nothing"):
        serving.sample_images(source, "nothing", 4, **settings)


def test_generated_images_differ():
    images = serving.generated_images(4, (24, 16))
    assert images.shape == (4, 24, 16, 3)
    assert images.dtype == np.uint8
    assert len(np.unique(images.reshape(4, -1), axis=0)) == 4
    assert images.std() > 30
