"""Routing variants, conditional blocks and expert dropout, compared with CondConv's tables."""

import keras
import numpy as np
import pytest

from convzoo.benchmarks.ablations import ABLATIONS, BASELINE, NETWORK
from convzoo.errors import ModelError
from convzoo.layers import CondConv2D, CondDense, DepthwiseCondConv2D, ExpertRouting
from convzoo.models import count, create_model

CONDITIONAL = (CondConv2D, CondDense, DepthwiseCondConv2D)


def small(**settings):
    return create_model(NETWORK, 5, (32, 32, 3), stem_strides=1, operator={"num_experts": 3, **settings})


def routings(model):
    return [layer for layer in model.layers if isinstance(layer, ExpertRouting)]


@pytest.mark.graphs
@pytest.mark.parametrize("row", ABLATIONS, ids=lambda row: f"{row.table} {row.row}")
def test_multiply_adds_match_the_papers_ablations(row):
    counted = count(create_model(NETWORK, operator={**BASELINE, **row.operator}))
    assert counted.madds == pytest.approx(row.madds, rel=0.007)


@pytest.mark.graphs
def test_multiply_adds_of_each_routing_variant_match_the_paper():
    """Differences to the baseline cancel the paper's way of counting the network; the paper has 0.1 M digits."""
    madds = {
        (row.table, row.row): count(create_model(NETWORK, operator={**BASELINE, **row.operator})).madds
        for row in ABLATIONS
        if row.row.startswith(("one layer", "hidden", "hierarchical", "softmax"))
    }
    published = {(row.table, row.row): row.madds for row in ABLATIONS}
    baseline = (3, "one layer (baseline)")
    for key, value in madds.items():
        assert value - madds[baseline] == pytest.approx(published[key] - published[baseline], abs=0.1e6)


@pytest.mark.graphs
def test_every_block_has_its_routing_layer():
    model = small()
    names = [f"block{index}_routing" for index in range(5, 13)] + ["head_dense_routing"]
    assert [layer.name for layer in routings(model)] == names
    for layer in model.layers:
        if isinstance(layer, CONDITIONAL):
            name = layer.name.split("_")[0] if layer.name.startswith("block") else layer.name
            assert layer.input[1] is model.get_layer(f"{name}_routing").output
    assert {routing.activation for routing in routings(model)} == {keras.activations.sigmoid}


@pytest.mark.graphs
def test_routing_vectors_are_shared():
    single = small(routing="single")
    assert [layer.name for layer in routings(single)] == ["block5_routing"]
    shared = {id(layer.input[1]) for layer in single.layers if isinstance(layer, CONDITIONAL)}
    assert shared == {id(single.get_layer("block5_routing").output)}
    pairs = small(routing="partially_shared")
    assert [layer.name for layer in routings(pairs)] == [
        *(f"block{index}_routing" for index in (5, 7, 9, 11)),
        "head_dense_routing",
    ]
    for block, routed_by in (("block6", "block5"), ("block7", "block7"), ("block12", "block11")):
        routing = pairs.get_layer(f"{block}_pointwise_conv").input[1]
        assert routing is pairs.get_layer(f"{routed_by}_routing").output


@pytest.mark.graphs
@pytest.mark.parametrize(("variant", "units"), [("hidden_small", 8), ("hidden_medium", 64), ("hidden_large", 512)])
def test_hidden_routing_layers(variant, units):
    model = small(routing=variant)
    hidden = model.get_layer("block5_routing_hidden")
    assert (hidden.units, hidden.activation) == (units, keras.activations.relu)
    assert model.get_layer("block5_routing").kernel.shape == (units, 3)
    assert model.get_layer("head_dense_routing_hidden").kernel.shape == (256, units * 4)


def test_hierarchical_and_softmax_routing():
    model = small(routing="hierarchical")
    assert model.get_layer("block5_routing").kernel.shape == (64, 3)
    assert model.get_layer("block6_routing").kernel.shape == (128 + 3, 3)
    assert model.get_layer("head_dense_routing").kernel.shape == (256 + 3, 3)
    assert model.get_layer("block6_routing_inputs").input[1] is model.get_layer("block5_routing").output
    model = small(routing="softmax")
    outputs = keras.Model(model.input, [layer.output for layer in routings(model)])
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    for weights in outputs(images):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(weights).sum(axis=1), 1.0, rtol=1e-6)


def test_expert_dropout_acts_only_in_training():
    model = small(expert_dropout=0.5)
    keras.utils.set_random_seed(0)
    dropped = model.get_layer("block5_expert_dropout")
    for layer in model.layers:
        if isinstance(layer, CONDITIONAL) and layer.name.startswith("block5"):
            assert layer.input[1] is dropped.output
    outputs = keras.Model(model.input, [model.get_layer("block5_routing").output, dropped.output])
    images = np.random.default_rng(0).normal(size=(64, 32, 32, 3)).astype("float32")
    raw, kept = (keras.ops.convert_to_numpy(x) for x in outputs(images, training=True))
    zero = kept == 0
    assert 0.3 < zero.mean() < 0.7
    assert zero.sum(axis=1).std() > 0  # drawn per example
    np.testing.assert_allclose(kept[~zero], 2 * raw[~zero], rtol=1e-5)
    raw, kept = (keras.ops.convert_to_numpy(x) for x in outputs(images, training=False))
    np.testing.assert_array_equal(raw, kept)


@pytest.mark.graphs
@pytest.mark.parametrize(
    ("name", "operator", "blocks"),
    [
        (NETWORK, {"first_block": 0, "stem": True}, ["head", "stem", *(f"block{i}" for i in range(13))]),
        (NETWORK, {"first_block": None}, ["head"]),
        (NETWORK, {"first_block": 11, "classifier": False}, ["block11", "block12"]),
        ("mobilenet_v2_condconv_x1_0", {}, ["head", *(f"block{i}" for i in range(1, 17))]),
        ("mnasnet_a1_condconv", {}, [f"block{i}" for i in range(10, 16)]),
        ("mnasnet_a1_condconv", {"first_block": 0, "stem": True}, ["stem", *(f"block{i}" for i in range(16))]),
        ("resnet50_condconv", {}, ["block13", "block14", "block15", "head"]),
        ("efficientnet_condconv_b0_8e", {"first_block": 15}, ["block15"]),
    ],
)
def test_blocks_are_conditional_from_the_first_one_on(name, operator, blocks):
    model = create_model(name, 5, (32, 32, 3), operator={"num_experts": 2, **operator})
    conditional = {layer.name.split("_")[0] for layer in model.layers if isinstance(layer, CONDITIONAL)}
    assert conditional == set(blocks)
    assert not isinstance(model.get_layer("head_dense"), CondDense) or "head" in blocks
    assert not any("shortcut" in layer.name for layer in model.layers if isinstance(layer, CONDITIONAL))


@pytest.mark.graphs
def test_one_expert_and_invalid_settings():
    assert count(small(num_experts=1)).params > count(create_model("mobilenet_v1_x0_25", 5, (32, 32, 3))).params
    with pytest.raises(ModelError, match=r"'hard'.*one_layer, softmax"):
        small(routing="hard")
    with pytest.raises(ModelError, match=r"first_block=13 .*0 to 12"):
        small(first_block=13)
    with pytest.raises(ModelError, match=r"first_block .*-1"):
        small(first_block=-1)
    with pytest.raises(ModelError, match=r"head of mobilenet_v1"):
        small(head=True)
    with pytest.raises(ModelError, match=r"'full'.*same or symmetric"):
        create_model(NETWORK, padding="full")
