"""The registry: listing, facts about every network, counting, and errors for unknown names."""

import dataclasses
import re

import keras
import pytest

from convzoo.errors import ModelError
from convzoo.models import ModelInfo, Preprocessing, count, create_model, info, list_models, register_model

pytestmark = pytest.mark.graphs


def test_list_models_by_pattern():
    assert list_models("efficientnet_condconv*") == [
        "efficientnet_condconv_b0_4e",
        "efficientnet_condconv_b0_8e",
        "efficientnet_condconv_b0_8e_depth",
    ]
    assert list_models() == sorted(list_models())
    assert list_models("nothing*") == []


@pytest.mark.parametrize("name", list_models())
def test_info_matches_the_built_network(name):
    facts = info(name)
    model = create_model(name)
    counted = count(model)
    assert counted.params == facts.params
    assert counted.madds == facts.madds
    assert model.input_shape == (None, facts.input_size, facts.input_size, 3)
    assert model.output_shape == (None, facts.num_classes)
    assert model.name == name
    # Every layer has an explicit name, because checkpoints and moving averages use the weight paths.
    assert all(re.match(r"(stem|block\d+|head)_", weight.path) for weight in model.weights)
    with pytest.raises(dataclasses.FrozenInstanceError):
        facts.params = 0


@pytest.mark.parametrize(
    ("name", "size", "expected", "tolerance"),
    [
        # Computed by hand from the stage tables: convolutions, classifier, squeeze-and-excitation and kernel mixing.
        ("efficientnet_b0", 224, 385.8e6, 0.1e6),
        ("efficientnet_condconv_b0_4e", 224, 396.5e6, 0.1e6),
        ("efficientnet_condconv_b0_8e", 224, 407.2e6, 0.1e6),
        ("efficientnet_condconv_b0_8e_depth", 224, 606.1e6, 0.1e6),
        ("efficientnet_condconv_b0_8e_depth", 240, 723.3e6, 0.1e6),
    ],
)
def test_multiply_adds_match_an_independent_sum(name, size, expected, tolerance):
    assert count(create_model(name, input_shape=(size, size, 3))).madds == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(
    ("name", "overrides", "params"),
    [
        # Published by timm and torchvision.
        ("mobilenet_v2_x1_0", {}, 3_504_872),
        ("resnet50", {}, 25_557_032),
        ("shufflenet_v2_x0_5", {"layout": "torchvision"}, 1_366_792),
        ("shufflenet_v2_x1_0", {"layout": "torchvision"}, 2_278_604),
        ("shufflenet_v2_x1_5", {"layout": "torchvision"}, 3_503_624),
        ("shufflenet_v2_x2_0", {"layout": "torchvision"}, 7_393_996),
    ],
)
def test_parameters_match_timm_and_torchvision(name, overrides, params):
    assert count(create_model(name, **overrides)).params == params


def test_layer_counts_add_up_and_unknown_sizes_are_rejected():
    counted = count(create_model("efficientnet_b0", num_classes=7))
    assert sum(row.madds for row in counted.layers) == counted.madds
    head = counted.layers[-1]
    assert (head.name, head.params, head.madds) == ("head_dense", 1280 * 7 + 7, 1280 * 7)
    assert counted.non_trainable_params == 42_016
    with pytest.raises(ModelError, match="stem_conv"):
        count(create_model("efficientnet_b0", input_shape=(None, None, 3)))


def test_count_rejects_layers_without_a_rule():
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, keras.layers.SeparableConv2D(2, 3, name="odd")(inputs))
    with pytest.raises(ModelError, match=r"SeparableConv2D.*'odd'"):
        count(model)


@pytest.mark.parametrize(
    ("name", "key", "values"),
    [
        ("efficientnet_b0", "dropout_rate", (1, 1.0, -0.1, float("nan"))),
        ("efficientnet_b0", "survival_prob", (0, 1.1, float("inf"))),
        ("efficientnet_b0", "width_coefficient", (-1, 0, 1e9, float("nan"))),
        ("efficientnet_b0", "depth_coefficient", (0, float("nan"))),
        ("efficientnet_b0", "bn_momentum", (1.0, -0.5)),
        ("efficientnet_b0", "bn_epsilon", (0.0, -1e-3)),
        ("resnet18", "stem_strides", (0, 3)),
        ("resnet18", "repeats", ((1, float("nan")),)),
        ("shufflenet_v2_x0_5", "head_filters", (0, 10**9)),
        ("seesawnet_shuffle_0_5d", "se_ratio", (-1.0,)),
    ],
)
def test_numbers_out_of_range(name, key, values):
    for value in values:
        with pytest.raises(ModelError, match=f"{key}=") as error:
            create_model(name, 5, (32, 32, 3), **{key: value})
        assert "\n" not in str(error.value)


def test_unknown_names_and_overrides_name_the_nearest_ones():
    with pytest.raises(ModelError, match=r"'efficientnet_b9'.*efficientnet_b\d"):
        create_model("efficientnet_b9")
    with pytest.raises(ModelError, match=r"'stem_stride'.*stem_strides"):
        create_model("efficientnet_condconv_b0_4e", stem_stride=2)
    with pytest.raises(ModelError, match=r"'num_expert'.*num_experts"):
        create_model("efficientnet_condconv_b0_4e", operator={"num_expert": 2})
    with pytest.raises(ModelError, match=r"'num_experts'.*operator=\{'name': 'CondConv'"):
        create_model("efficientnet_condconv_b0_4e", num_experts=2)
    with pytest.raises(ModelError, match=r"operator .*'CondConv'"):
        create_model("resnet18", operator="CondConv")
    with pytest.raises(ModelError, match=r"'CondKonv'.*CondConv"):
        create_model("resnet18", operator={"name": "CondKonv"})
    with pytest.raises(ModelError, match="efficientnet_b0, "):
        info("q")
    with pytest.raises(ModelError, match=r"num_classes .*0"):
        create_model("efficientnet_b0", num_classes=0)
    with pytest.raises(ModelError, match=r"num_classes .*'10'"):
        create_model("efficientnet_b0", num_classes="10")
    with pytest.raises(ModelError, match=r"resnet18 .*input_shape=\(32, 32\), repeats=3"):
        create_model("resnet18", input_shape=(32, 32), repeats=3)
    assert issubclass(ModelError, ValueError)


def test_a_name_cannot_be_registered_twice():
    facts = ModelInfo("efficientnet_b0", "other", "", 1, 1, 8, Preprocessing((0, 0, 0), (1, 1, 1), 1.0))
    with pytest.raises(ModelError, match="'efficientnet_b0'"):
        register_model(lambda **_: None, facts)
