"""The comparison of outputs, and the images for it."""

import numpy as np
import pytest

from convzoo import data, serving
from convzoo.errors import DataError, ModelError
from convzoo.serving import parity
from convzoo.serving.parity import LIMITS


def compare(expected, outputs):
    """Compares outputs of four images."""
    return parity.compare(lambda images: expected, lambda images: outputs, np.zeros((4, 8, 8, 3), np.uint8))


LOGITS = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [0.0, 1.0]], np.float32)


def test_equal_outputs():
    result = compare({"logits": LOGITS}, {"logits": LOGITS})
    assert (result.num_images, result.largest, result.relative, result.top1) == (4, {"logits": 0}, {"logits": 0}, 1.0)
    result.check("none")
    zeros = np.zeros_like(LOGITS)
    compare({"logits": zeros}, {"logits": zeros}).check("none")


def test_differences():
    other = LOGITS.copy()
    other[0] = [0.0, 1.0]
    result = compare({"logits": LOGITS}, {"logits": other})
    assert result.top1 == 0.75
    assert result.largest["logits"] == 1.0
    assert result.relative["logits"] == pytest.approx(np.sqrt(2 / 7))
    assert "4 images: top-1 agreement 75.00%, largest difference of logits 1.0e+00" in str(result)
    for quantize, (tolerance, min_agreement) in LIMITS.items():
        with pytest.raises(ModelError, match=f"above the tolerance {tolerance}"):
            result.check(quantize)
        with pytest.raises(ModelError, match=f"top-1 agreement 75.00%, below the minimum {min_agreement:.2%}"):
            result.check(quantize, tolerance=0.6)
        result.check(quantize, tolerance=0.6, min_agreement=0.75)


def test_classes_of_other_outputs():
    classes = np.array([[0, 1], [2, 2]])
    assert compare({"classes": classes, "scores": LOGITS}, {"classes": classes.T, "scores": LOGITS}).top1 == 0.5
    # Those of a detector are logits of the anchors.
    assert compare({"classes": LOGITS}, {"classes": LOGITS}).top1 is None


@pytest.mark.parametrize("outputs", [{"logits": LOGITS[:, :1]}, {"other": LOGITS}, {}])
def test_other_names_and_shapes(outputs):
    with pytest.raises(ModelError, match="the exported model has the outputs"):
        compare({"logits": LOGITS}, outputs)


def test_batches_are_added_up():
    images = np.arange(20.0).reshape(20, 1)
    result = parity.compare(
        lambda batch: {"logits": np.concatenate([batch, -batch], 1)},
        lambda batch: {"logits": np.concatenate([np.where(batch == 13, -19, batch), -batch], 1)},
        images,
    )
    assert (result.num_images, result.largest["logits"], result.top1) == (20, 32.0, 0.95)
    assert result.relative["logits"] == pytest.approx(32 / np.sqrt(2 * np.sum(images**2)))


def test_a_network_with_values_that_are_not_finite():
    with pytest.raises(ModelError, match="the output logits of the network is not finite; use another checkpoint"):
        compare({"logits": LOGITS * np.nan}, {"logits": LOGITS})


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
