"""Looking networks up, building them, and what a wrong name or file is answered."""

import dataclasses
import re

import keras
import pytest

from convzoo.models import ModelError, ModelInfo, Preprocessing, count, create_model, info, list_models, register_model

pytestmark = pytest.mark.graphs


def test_listing_by_wildcard():
    assert list_models("efficientnet_condconv*") == [
        "efficientnet_condconv_b0_4e",
        "efficientnet_condconv_b0_8e",
        "efficientnet_condconv_b0_8e_depth",
    ]
    assert list_models() == sorted(list_models())
    assert list_models("nothing*") == []


@pytest.mark.parametrize("name", list_models())
def test_figures_of_the_record_are_those_of_the_network(name):
    record = info(name)
    model = create_model(name)
    counted = count(model)
    assert counted.params == record.params
    assert counted.madds == record.madds
    assert model.input_shape == (None, record.input_size, record.input_size, 3)
    assert model.output_shape == (None, record.num_classes)
    assert model.name == name
    # Every layer is named, not counted: checkpoints and moving averages go by the paths of the weights.
    assert all(re.match(r"(stem|block\d+|head)_", weight.path) for weight in model.weights)
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.params = 0


@pytest.mark.parametrize(
    ("name", "size", "published", "within"),
    [
        # From the stage tables by hand: convolutions, classifier and squeeze-and-excitation, plus the mixing.
        ("efficientnet_b0", 224, 385.8e6, 0.1e6),
        ("efficientnet_condconv_b0_4e", 224, 396.5e6, 0.1e6),
        ("efficientnet_condconv_b0_8e", 224, 407.2e6, 0.1e6),
        ("efficientnet_condconv_b0_8e_depth", 224, 606.1e6, 0.1e6),
        ("efficientnet_condconv_b0_8e_depth", 240, 723.3e6, 0.1e6),
    ],
)
def test_multiply_adds_against_an_independent_sum(name, size, published, within):
    assert count(create_model(name, input_shape=(size, size, 3))).madds == pytest.approx(published, abs=within)


@pytest.mark.parametrize(
    ("name", "overrides", "params"),
    [
        # timm and torchvision state these to the last digit.
        ("mobilenet_v2_x1_0", {}, 3_504_872),
        ("resnet50", {}, 25_557_032),
        ("shufflenet_v2_x0_5", {"layout": "torchvision"}, 1_366_792),
        ("shufflenet_v2_x1_0", {"layout": "torchvision"}, 2_278_604),
        ("shufflenet_v2_x1_5", {"layout": "torchvision"}, 3_503_624),
        ("shufflenet_v2_x2_0", {"layout": "torchvision"}, 7_393_996),
    ],
)
def test_parameters_that_others_state(name, overrides, params):
    assert count(create_model(name, **overrides)).params == params


def test_count_adds_up_and_refuses_an_unknown_size():
    counted = count(create_model("efficientnet_b0", num_classes=7))
    assert sum(row.madds for row in counted.layers) == counted.madds
    head = counted.layers[-1]
    assert (head.name, head.params, head.madds) == ("head_dense", 1280 * 7 + 7, 1280 * 7)
    assert counted.non_trainable_params == 42_016
    with pytest.raises(ModelError, match="build the network with a fixed input_shape"):
        count(create_model("efficientnet_b0", input_shape=(None, None, 3)))


def test_count_refuses_a_layer_it_does_not_know():
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, keras.layers.SeparableConv2D(2, 3, name="odd")(inputs))
    with pytest.raises(ModelError, match=r"cannot count a SeparableConv2D layer \('odd'\)"):
        count(model)


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(ModelError, match=r"unknown network 'efficientnet_b9'; nearest: efficientnet_b\d"):
        create_model("efficientnet_b9")
    with pytest.raises(ModelError, match="has no override 'num_expert'; nearest: num_experts"):
        create_model("efficientnet_condconv_b0_4e", num_expert=2)
    with pytest.raises(ModelError, match="known: efficientnet_b0, "):
        info("q")
    with pytest.raises(ModelError, match="num_classes must be a whole number of at least 1, not 0"):
        create_model("efficientnet_b0", num_classes=0)
    with pytest.raises(ModelError, match="of at least 1, not '10'"):
        create_model("efficientnet_b0", num_classes="10")
    with pytest.raises(ModelError, match=r"resnet18 cannot be built with input_shape=\(32, 32\), repeats=3: "):
        create_model("resnet18", input_shape=(32, 32), repeats=3)
    assert issubclass(ModelError, ValueError)


def test_a_name_is_registered_once():
    record = ModelInfo("efficientnet_b0", "other", "", 1, 1, 8, Preprocessing((0, 0, 0), (1, 1, 1), 1.0))
    with pytest.raises(ModelError, match="registered already"):
        register_model(lambda **_: None, record)
