"""BilinearResize: parity with Keras's resize, gradient, serialization and errors."""

import numpy as np
import pytest
from helpers.run_layer_test import run_layer_test
from keras import ops

from convzoo.layers import BilinearResize


def images(height, width, channels=3):
    return np.random.default_rng(0).normal(size=(2, height, width, channels)).astype("float32")


@pytest.mark.parametrize(
    "sizes", [((4, 6), (16, 24)), ((5, 7), (9, 8)), ((1, 1), (3, 4)), ((8, 8), (8, 8)), ((9, 6), (4, 5))]
)
def test_parity_with_keras(sizes):
    old, new = sizes
    x = images(*old)
    results = run_layer_test(BilinearResize, x, images(*new, channels=1), output_shape=(2, *new, 3))
    expected = ops.image.resize(x, new, "bilinear", antialias=False, data_format="channels_last")
    np.testing.assert_allclose(results.outputs[0], expected, atol=1e-5)
    # The gradient of the linear map A: <g, A x> = <A^T g, x>. The values of `like` have none.
    forward, backward = np.sum(results.cotangents[0] * results.outputs[0]), np.sum(results.gradients[0] * x)
    np.testing.assert_allclose(backward, forward, rtol=1e-3)
    assert not np.any(results.gradients[1])


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: BilinearResize("first"), "'first'"),
        (lambda: BilinearResize()(images(3, 4)[0], images(3, 4)), r"\(3, 4, 3\)"),
        (lambda: BilinearResize()(images(3, 4), images(3, 4)[0]), r"\(3, 4, 3\)"),
    ],
)
def test_bad_arguments_and_inputs(make, match):
    with pytest.raises(ValueError, match=match):
        make()
