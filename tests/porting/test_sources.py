"""What fits and what does not: every variable exactly once, on both sides."""

import keras
import numpy as np
import pytest
from goldens import stand_in
from safetensors.numpy import save_file

from convzoo.models import ModelError, create_model
from convzoo.porting import SOURCES, PortingError, import_weights
from convzoo.porting.carry import carry


@pytest.fixture(scope="module")
def resnet18():
    return stand_in.load("timm_resnet18")


@pytest.fixture
def load(tmp_path):
    def load(weights, name="resnet18", overrides=None, source="timm"):
        path = str(tmp_path / "a.safetensors")
        save_file(weights, path)
        return import_weights(source, path, name, overrides)

    return load


def refuse(load, match, *arguments, **options):
    with pytest.raises(PortingError, match=match) as caught:
        load(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_left_over_and_misshapen(load, resnet18):
    weights = dict(resnet18)
    for block in range(2):
        del weights[f"layer1.{block}.bn1.weight"]
    weights["layer5.0.conv9.weight"] = weights["other.bias"] = np.ones(3, "float32")
    weights["conv1.weight"] = weights["conv1.weight"][:, :, 1:-1, 1:-1]
    weights["bn1.running_var"] = np.ones(64, "int32")
    message = refuse(load, "the weights do not fit resnet18", weights)
    assert "2 missing: block0_1_bn/gamma, block1_1_bn/gamma;" in message
    assert "2 left over: layer5.0.conv9.weight, other.bias;" in message
    assert "conv1.weight [64, 3, 5, 5] for stem_conv/kernel, which needs [64, 3, 7, 7]" in message
    assert "bn1.running_var of int32 for stem_bn/moving_variance" in message


def test_a_long_list_is_cut(load, resnet18):
    weights = {name: value for name, value in resnet18.items() if "running_mean" not in name}
    message = refuse(load, "20 missing: ", weights)
    assert message.count("moving_mean") == 5
    assert message.endswith(", ...")


def test_a_deeper_network(load, resnet18):
    message = refuse(load, r"the weights do not fit resnet34: \d+ missing: block", resnet18, "resnet34")
    assert "of another shape: " in message


def test_nothing_is_assigned_unless_all_fits(resnet18):
    model = create_model("resnet18")
    before = keras.ops.convert_to_numpy(model.get_layer("stem_conv").kernel)
    weights = dict(resnet18)
    del weights["fc.bias"]
    timm = SOURCES["timm"]
    with pytest.raises(PortingError, match=r"1 missing: head_dense/bias$"):
        carry(model, weights, timm.namings["resnet"].paths(weights, timm.layout), timm.layout)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model.get_layer("stem_conv").kernel), before)


def test_two_for_one_place():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2, use_bias=False, name="head_dense")(inputs), name="small")
    values = {"a": np.ones((2, 4), "float32"), "b": np.ones((2, 4), "float32")}
    with pytest.raises(PortingError, match="1 given twice: b and a for head_dense/kernel"):
        carry(model, values, dict.fromkeys(values, "head_dense/kernel"), SOURCES["timm"].layout)


def test_the_number_of_classes_is_that_of_the_file(load, resnet18):
    weights = {**resnet18, "fc.weight": np.ones((7, 512), "float32"), "fc.bias": np.ones(7, "float32")}
    assert load(weights).model.output_shape == (None, 7)
    del weights["fc.weight"]
    refuse(load, "has no classifier under the name that timm gives it in resnet18", weights)


def test_what_a_source_implies_and_what_the_user_says(load):
    weights = stand_in.load("torchvision_shufflenet_v2_x1_0")
    assert load(weights, "shufflenet_v2_x1_0", source="torchvision").overrides == {"layout": "torchvision"}
    # Our own layout has other widths where a stage begins.
    refuse(load, "of another shape", weights, "shufflenet_v2_x1_0", {"layout": "megvii"}, "torchvision")
    implied = SOURCES["torchvision"].implied
    assert implied("efficientnet_b4") == {"padding": "symmetric", "bn_epsilon": 1e-5}
    assert implied("efficientnet_b5") == {"padding": "symmetric", "bn_epsilon": 1e-3}
    assert implied("resnet18") == {}


def test_what_a_file_cannot_tell_is_said():
    doubt = SOURCES["timm"].doubt
    assert "timm's own efficientnet_* need --override=padding=symmetric" in doubt("efficientnet_b0", {})
    assert doubt("efficientnet_b0", {"padding": "symmetric", "bn_epsilon": 1e-5}) == ""
    assert doubt("resnet18", {}) == ""


def test_what_cannot_be_asked_for(load, resnet18, tmp_path):
    refuse(load, "unknown source 'keras'; known: tf1, timm, torchvision", resnet18, source="keras")
    refuse(load, "timm has no weights for shufflenet_v2_x1_0", resnet18, "shufflenet_v2_x1_0")
    refuse(load, "num_classes is no override", resnet18, overrides={"num_classes": 10})
    with pytest.raises(ModelError, match=r"resnet18 cannot be built with input_shape=.*bn_epsilon='small'"):
        load(resnet18, overrides={"bn_epsilon": "small"})
    with pytest.raises(ModelError, match="unknown network 'resnet19'; nearest: resnet18"):
        load(resnet18, "resnet19")
    with pytest.raises(ModelError, match="resnet18 has no override 'widht'"):
        load(resnet18, overrides={"widht": 2})
