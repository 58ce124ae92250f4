"""Import of weights: every variable and every array is used exactly once."""

import keras
import numpy as np
import pytest
from goldens import stand_in
from safetensors.numpy import save_file

from convzoo.errors import ModelError
from convzoo.models import create_model
from convzoo.porting import SOURCES, import_weights
from convzoo.porting.assignment import assign_weights


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


def check_error(load, match, *arguments, **options):
    with pytest.raises(ModelError, match=match) as error:
        load(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_missing_unexpected_and_mismatched_arrays(load, resnet18):
    weights = dict(resnet18)
    for block in range(2):
        del weights[f"layer1.{block}.bn1.weight"]
    weights["layer5.0.conv9.weight"] = weights["other.bias"] = np.ones(3, "float32")
    weights["conv1.weight"] = weights["conv1.weight"][:, :, 1:-1, 1:-1]
    weights["bn1.running_var"] = np.ones(64, "int32")
    message = check_error(load, "resnet18", weights)
    assert "2 missing: block0_1_bn/gamma, block1_1_bn/gamma;" in message
    assert "2 unexpected: layer5.0.conv9.weight, other.bias;" in message
    assert "conv1.weight [64, 3, 5, 5] for stem_conv/kernel, which needs [64, 3, 7, 7]" in message
    assert "bn1.running_var of int32 for stem_bn/moving_variance" in message


def test_long_lists_are_shortened(load, resnet18):
    weights = {name: value for name, value in resnet18.items() if "running_mean" not in name}
    message = check_error(load, "20 missing: ", weights)
    assert message.count("moving_mean") == 5
    assert message.endswith(", ...")


def test_weights_of_a_shallower_network(load, resnet18):
    message = check_error(load, r"resnet34: \d+ missing: block", resnet18, "resnet34")
    assert " mismatched: " in message


def test_nothing_is_assigned_unless_everything_fits(resnet18):
    model = create_model("resnet18")
    before = keras.ops.convert_to_numpy(model.get_layer("stem_conv").kernel)
    weights = dict(resnet18)
    del weights["fc.bias"]
    timm = SOURCES["timm"]
    paths = timm.layer_names["resnet"].variable_paths(weights, timm.framework)
    with pytest.raises(ModelError, match=r"1 missing: head_dense/bias$"):
        assign_weights(model, weights, paths, timm.framework)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model.get_layer("stem_conv").kernel), before)


def test_two_arrays_for_one_variable():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2, use_bias=False, name="head_dense")(inputs), name="small")
    values = {"a": np.ones((2, 4), "float32"), "b": np.ones((2, 4), "float32")}
    with pytest.raises(ModelError, match="1 duplicate: b and a for head_dense/kernel"):
        assign_weights(model, values, dict.fromkeys(values, "head_dense/kernel"), SOURCES["timm"].framework)


def test_number_of_classes_is_read_from_the_file(load, resnet18):
    weights = {**resnet18, "fc.weight": np.ones((7, 512), "float32"), "fc.bias": np.ones(7, "float32")}
    assert load(weights).model.output_shape == (None, 7)
    del weights["fc.weight"]
    check_error(load, "timm .*resnet18", weights)


def test_required_overrides(load):
    weights = stand_in.load("torchvision_shufflenet_v2_x1_0")
    assert load(weights, "shufflenet_v2_x1_0", source="torchvision").overrides == {"layout": "torchvision"}
    # The authors' layout has other widths in the first block of a stage.
    check_error(load, "mismatched", weights, "shufflenet_v2_x1_0", {"layout": "megvii"}, "torchvision")
    required = SOURCES["torchvision"].required_overrides
    assert required("efficientnet_b4") == {"padding": "symmetric", "bn_epsilon": 1e-5}
    assert required("efficientnet_b5") == {"padding": "symmetric", "bn_epsilon": 1e-3}
    assert required("resnet18") == {}


def test_assumptions():
    assumption = SOURCES["timm"].assumption
    assert "--override=padding=symmetric" in assumption("efficientnet_b0", {})
    assert assumption("efficientnet_b0", {"padding": "symmetric", "bn_epsilon": 1e-5}) == ""
    assert assumption("resnet18", {}) == ""


def test_invalid_arguments(load, resnet18, tmp_path):
    check_error(load, "'mxnet'.*tf1, timm, torchvision", resnet18, source="mxnet")
    check_error(load, "timm .*shufflenet_v2_x1_0", resnet18, "shufflenet_v2_x1_0")
    check_error(load, "num_classes", resnet18, overrides={"num_classes": 10})
    with pytest.raises(ModelError, match=r"resnet18 .*bn_epsilon='small'"):
        load(resnet18, overrides={"bn_epsilon": "small"})
    with pytest.raises(ModelError, match=r"'resnet19'.*resnet18"):
        load(resnet18, "resnet19")
    with pytest.raises(ModelError, match="'widht'"):
        load(resnet18, overrides={"widht": 2})
