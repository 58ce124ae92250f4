"""BilinearResize against Keras's own resize, and what it refuses."""

import keras
import numpy as np
import pytest

from convzoo.layers import BilinearResize


def images(height, width, channels=3):
    return np.random.default_rng(0).normal(size=(2, height, width, channels)).astype("float32")


@pytest.mark.parametrize(
    "sizes", [((4, 6), (16, 24)), ((5, 7), (9, 8)), ((1, 1), (3, 4)), ((8, 8), (8, 8)), ((9, 6), (4, 5))]
)
def test_is_kerass_own_resize(sizes, model_gradients):
    (height, width), new = sizes
    x, like = images(height, width), images(*new, 1)
    layer = BilinearResize()
    outputs = layer(x, like)
    assert outputs.shape == layer.compute_output_shape(x.shape, like.shape)
    # Without antialias Keras's resize is TensorFlow's and torch's.
    np.testing.assert_allclose(outputs, keras.ops.image.resize(x, new, "bilinear", antialias=False), atol=1e-5)
    # The gradient of a linear function: <g, A x> = <A^T g, x>.
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, layer(inputs, keras.ops.ones((1, *new, 1))))
    cotangent = np.random.default_rng(1).normal(size=outputs.shape).astype("float32")
    _, gradients = model_gradients(model, x, cotangent)
    np.testing.assert_allclose(np.sum(gradients["inputs"] * x), np.sum(cotangent * np.asarray(outputs)), rtol=1e-3)


def test_sizes_that_are_not_known():
    x, like = keras.Input((None, None, 3)), keras.Input((None, None, 8))
    outputs = BilinearResize()(x, like)
    assert outputs.shape == (None, None, None, 3)
    model = keras.Model([x, like], outputs)
    for size in ((6, 9), (4, 4)):
        found = model([images(3, 4), images(*size, 8)])
        np.testing.assert_allclose(found, BilinearResize()(images(3, 4), images(*size)), atol=1e-6)


def test_channels_first():
    x, like = images(3, 4), images(6, 5)
    turned = BilinearResize("channels_first")(*(np.transpose(t, (0, 3, 1, 2)) for t in (x, like)))
    np.testing.assert_allclose(np.transpose(turned, (0, 2, 3, 1)), BilinearResize()(x, like), atol=1e-6)
    with pytest.raises(ValueError, match="data_format 'first'"):
        BilinearResize("first")


def test_mixed_precision_and_config():
    layer = BilinearResize(dtype="mixed_bfloat16", name="resize")
    outputs = layer(images(3, 4), images(6, 8))
    assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"
    assert BilinearResize.from_config(layer.get_config()).get_config() == layer.get_config()


def test_bad_input():
    with pytest.raises(ValueError, match=r"got shape \(3, 4, 3\), expected four axes"):
        BilinearResize()(images(3, 4)[0], images(3, 4))
