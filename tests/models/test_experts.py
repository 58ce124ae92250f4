"""Experts of a network: routing weights and the similarity of kernels."""

import numpy as np
import pytest
from keras import ops

from convzoo.models import create_model, expert_similarity, routing_weights

pytestmark = pytest.mark.graphs


def _network(**operator):
    settings = {"num_experts": 3, "first_block": 1, **operator}
    return create_model("mobilenet_v1_condconv_x0_25", 4, (16, 16, 3), blocks=((8, 1), (8, 2)), operator=settings)


def test_routing_weights_are_those_of_the_blocks():
    model = _network(classifier=True)
    outputs = routing_weights(model)(np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32"))
    assert {name: tuple(weights.shape) for name, weights in outputs.items()} == {"block1": (2, 3), "head_dense": (2, 3)}
    assert all(0 < float(ops.min(weights)) < float(ops.max(weights)) < 1 for weights in outputs.values())


def test_a_network_without_experts():
    model = create_model("mobilenet_v1_x0_25", 4, (16, 16, 3), blocks=((8, 1),))
    assert routing_weights(model) is None
    assert expert_similarity(model) == {}


def test_similarity_of_equal_opposite_and_orthogonal_experts():
    model = _network(classifier=False)
    kernel = np.zeros(model.get_layer("block1_pointwise_conv").kernel.shape, "float32")
    kernel[0, ..., 0], kernel[1, ..., 0], kernel[2, ..., 1] = 1.0, -2.0, 3.0
    model.get_layer("block1_pointwise_conv").kernel.assign(kernel)
    similarity = expert_similarity(model)
    assert set(similarity) == {"block1_depthwise_conv", "block1_pointwise_conv"}
    np.testing.assert_allclose(similarity["block1_pointwise_conv"], [[1, -1, 0], [-1, 1, 0], [0, 0, 1]], atol=1e-9)
