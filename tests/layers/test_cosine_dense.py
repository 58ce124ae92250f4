"""CosineDense: cosines against NumPy, zeros, serialization and errors."""

import numpy as np
import pytest
from helpers.run_layer_test import run_layer_test

from convzoo.layers import CosineDense


def test_outputs_are_cosines():
    x = np.random.default_rng(1).normal(size=(4, 6)).astype("float32")
    results = run_layer_test(lambda **kwargs: CosineDense(3, **kwargs), x, output_shape=(4, 3), tolerance=1e-4)
    kernel = results.layer.get_weights()[0]
    norms = np.linalg.norm(x, axis=1)[:, np.newaxis] * np.linalg.norm(kernel, axis=0)
    np.testing.assert_allclose(results.outputs[0], x @ kernel / norms, atol=1e-5)
    # A cosine does not depend on the length of either vector.
    np.testing.assert_allclose((results.gradients[0] * x).sum(-1), 0, atol=1e-4)


def test_zeros_have_finite_outputs():
    assert not np.any(CosineDense(3)(np.zeros((2, 4), "float32")))


@pytest.mark.parametrize("arguments", [{"use_bias": True}, {"activation": "relu"}])
def test_no_bias_and_no_activation(arguments):
    with pytest.raises(ValueError, match="no cosines"):
        CosineDense(3, **arguments)
