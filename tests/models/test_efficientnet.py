"""EfficientNet and CondConv-EfficientNet: channels, depths, conditional blocks, drop-connect and outputs."""

import keras
import numpy as np
import pytest

import convzoo
from convzoo.errors import ModelError
from convzoo.models.efficientnet import BLOCKS
from convzoo.models.mbconv import decode_stage, round_filters

# Three narrow stages, the last of them conditional.
TINY = {
    "input_shape": (32, 32, 3),
    "num_classes": 5,
    "blocks": ("r1_k3_s11_e1_i32_o16_se0.25", "r2_k3_s22_e2_i16_o24_se0.25", "r2_k5_s22_e2_i24_o40_se0.25"),
    "width_coefficient": 0.5,
    "operator": {"num_experts": 3, "first_block": 3},
}


def tiny(**overrides):
    return convzoo.models.create_model("efficientnet_condconv_b0_8e", **{**TINY, **overrides})


def test_published_channels_and_depths():
    assert round_filters(32, 1.0) == 32
    assert round_filters(32, 1.1) == 32  # 35.2 rounds down by less than 10 %
    assert round_filters(16, 1.4) == 24  # 22.4
    assert round_filters(24, 0.5) == 16  # 12 rounds to 16 because 8 is less than 90 % of it
    stage = decode_stage(BLOCKS[5])
    assert (stage.repeats, stage.kernel_size, stage.strides) == (4, 5, (2, 2))
    assert (stage.expand_ratio, stage.input_filters, stage.output_filters) == (6, 112, 192)


@pytest.mark.graphs
def test_conditional_blocks_share_one_routing_vector():
    model = convzoo.models.create_model("efficientnet_condconv_b0_8e_depth")
    routings = [layer for layer in model.layers if type(layer) is convzoo.layers.ExpertRouting]
    assert [layer.name for layer in routings] == [f"block{index}_routing" for index in range(12, 23)]
    for layer_class, number in ((convzoo.layers.CondConv2D, 22), (convzoo.layers.DepthwiseCondConv2D, 11)):
        instances = [layer for layer in model.layers if type(layer) is layer_class]
        assert len(instances) == number
        for layer in instances:
            routing = layer.input[1]
            block = layer.name.split("_")[0]
            assert routing is model.get_layer(f"{block}_routing").output
    # The routing reads the block's input, before the expansion.
    assert model.get_layer("block13_routing").input.shape[-1] == 112


@pytest.mark.graphs
def test_drop_connect_rate_increases_with_the_block():
    model = convzoo.models.create_model("efficientnet_b0")
    rates = {layer.name: layer.rate for layer in model.layers if layer.name.endswith("drop_connect")}
    assert rates["block2_drop_connect"] == pytest.approx(0.2 * 2 / 16)
    assert rates["block14_drop_connect"] == pytest.approx(0.2 * 14 / 16)
    assert "block15_drop_connect" not in rates  # 192 to 320 channels: no residual connection
    assert tiny(survival_prob=1.0).get_layer("block2_add") is not None


@pytest.mark.graphs
def test_feature_maps_and_network_without_top():
    features = tiny(features=True)(np.zeros((2, 32, 32, 3), "float32"))
    assert {name: tuple(value.shape[1:]) for name, value in features.items()} == {
        "reduction_1": (16, 16, 8),
        "reduction_2": (8, 8, 16),
        "reduction_3": (4, 4, 24),
        "head": (4, 4, 640),
    }
    assert tiny(include_top=False).output.shape == (None, 4, 4, 640)
    full = convzoo.models.create_model("efficientnet_b0", features=True)
    assert [full.output[f"reduction_{k}"].shape[1] for k in range(1, 6)] == [112, 56, 28, 14, 7]


def test_batch_and_image_size_are_free():
    model = tiny(input_shape=(None, None, 3))
    for batch, size in ((1, 32), (3, 40)):
        assert model(np.zeros((batch, size, size, 3), "float32")).shape == (batch, 5)


def test_logits_and_routing_are_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = tiny()
    finally:
        keras.config.set_dtype_policy("float32")
    logits = model(np.zeros((2, 32, 32, 3), "float32"))
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert model.get_layer("block3_routing").compute_dtype == "float32"
    assert model.get_layer("block3_expand_conv").compute_dtype == "bfloat16"
    assert all(weight.dtype == "float32" for weight in model.weights)


def test_invalid_stages():
    with pytest.raises(ModelError, match="'k3_s11'"):
        tiny(blocks=("k3_s11",))
    with pytest.raises(ModelError, match=r"i16.*32"):
        tiny(blocks=("r1_k3_s11_e1_i16_o16",))
    with pytest.raises(ModelError, match=r"se0\.2\.5"):
        tiny(blocks=("r1_k3_s11_e1_i32_o16_se0.2.5",))
