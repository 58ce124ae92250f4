"""EfficientNet and CondConv-EfficientNet: published figures."""

import keras
import numpy as np
import pytest

import convzoo
from convzoo.models.efficientnet import CONDCONV_BLOCKS
from convzoo.models.mbconv import decode_stage, round_filters

# Small enough for a test: 2 of the 3 conditional stages, few channels.
TINY = {
    "input_shape": (32, 32, 3),
    "num_classes": 5,
    "blocks": ("r1_k3_s11_e1_i32_o16_se0.25", "r2_k3_s22_e2_i16_o24_se0.25", "r2_k5_s22_e2_i24_o40_se0.25_cc"),
    "width_coefficient": 0.5,
    "num_experts": 3,
}


def tiny(**overrides):
    return convzoo.models.create_model("efficientnet_condconv_b0_8e", **{**TINY, **overrides})


def test_published_channels_and_depths():
    assert round_filters(32, 1.0) == 32
    assert round_filters(32, 1.1) == 32  # 35.2 rounds down, by less than a tenth
    assert round_filters(16, 1.4) == 24  # 22.4
    assert round_filters(24, 0.5) == 16  # 12 rounds to 16, never to 8
    stage = decode_stage(CONDCONV_BLOCKS[5])
    assert (stage.repeats, stage.kernel_size, stage.strides) == (4, 5, (2, 2))
    assert (stage.expand_ratio, stage.input_filters, stage.output_filters) == (6, 112, 192)
    assert stage.conditional
    assert not decode_stage(CONDCONV_BLOCKS[3]).conditional


@pytest.mark.graphs
def test_which_blocks_are_conditional_and_share_one_routing():
    model = convzoo.models.create_model("efficientnet_condconv_b0_8e_depth")
    routings = [layer for layer in model.layers if type(layer) is convzoo.layers.ExpertRouting]
    assert [layer.name for layer in routings] == [f"block{index}_routing" for index in range(12, 23)]
    for kind, number in ((convzoo.layers.CondConv2D, 22), (convzoo.layers.DepthwiseCondConv2D, 11)):
        made = [layer for layer in model.layers if type(layer) is kind]
        assert len(made) == number
        for layer in made:
            routing = layer.input[1]
            block = layer.name.split("_")[0]
            assert routing is model.get_layer(f"{block}_routing").output
    # From the block's input, before the expansion.
    assert model.get_layer("block13_routing").input.shape[-1] == 112


@pytest.mark.graphs
def test_drop_connect_rates_rise_with_the_block():
    model = convzoo.models.create_model("efficientnet_b0")
    rates = {layer.name: layer.rate for layer in model.layers if layer.name.endswith("drop_connect")}
    assert rates["block2_drop_connect"] == pytest.approx(0.2 * 2 / 16)
    assert rates["block14_drop_connect"] == pytest.approx(0.2 * 14 / 16)
    assert "block15_drop_connect" not in rates  # 192 to 320 channels: no identity to fall back on
    assert tiny(survival_prob=1.0).get_layer("block2_add") is not None


@pytest.mark.graphs
def test_features_and_headless_network():
    features = tiny(features=True)(np.zeros((2, 32, 32, 3), "float32"))
    assert {name: tuple(value.shape[1:]) for name, value in features.items()} == {
        "reduction_1": (16, 16, 8),
        "reduction_2": (8, 8, 16),
        "reduction_3": (4, 4, 24),
        "head": (4, 4, 640),
    }
    assert tiny(include_top=False).output.shape == (None, 4, 4, 640)
    whole = convzoo.models.create_model("efficientnet_b0", features=True)
    assert [whole.output[f"reduction_{k}"].shape[1] for k in range(1, 6)] == [112, 56, 28, 14, 7]


def test_any_batch_and_any_size():
    model = tiny(input_shape=(None, None, 3))
    for batch, size in ((1, 32), (3, 40)):
        assert model(np.zeros((batch, size, size, 3), "float32")).shape == (batch, 5)


def test_float32_logits_and_routing_under_mixed_precision():
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


def test_stage_that_cannot_be_read():
    with pytest.raises(convzoo.models.ModelError, match=r"cannot read the stage 'k3_s11'"):
        tiny(blocks=("k3_s11",))
    with pytest.raises(convzoo.models.ModelError, match="wants i16, but gets 32 channels; write i32"):
        tiny(blocks=("r1_k3_s11_e1_i16_o16",))
    with pytest.raises(convzoo.models.ModelError, match="cannot read the stage"):
        tiny(blocks=("r1_k3_s11_e1_i32_o16_se0.2.5",))
