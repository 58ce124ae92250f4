"""With imported weights our networks compute the logits of the original implementations."""

import keras
import numpy as np
import pytest
from goldens import stand_in
from safetensors.numpy import save_file

from convzoo.models import create_model, read_metadata, save_weights
from convzoo.porting import import_weights


def check(model, golden):
    got = keras.ops.convert_to_numpy(model(stand_in.images(golden), training=False))
    np.testing.assert_allclose(got, stand_in.logits(golden), rtol=1e-4, atol=1e-4)


def shape(golden):
    return stand_in.images(golden).shape[1:]


@pytest.mark.parametrize(
    ("golden", "name"),
    [
        ("timm_tf_efficientnet_b0", "efficientnet_b0"),
        ("timm_tf_efficientnet_cc_b0_4e", "efficientnet_condconv_b0_4e"),
        ("timm_mobilenetv1_100", "mobilenet_v1_x1_0"),
        ("timm_mobilenetv2_100", "mobilenet_v2_x1_0"),
        ("timm_semnasnet_100", "mnasnet_a1"),
        ("timm_resnet18", "resnet18"),
        ("timm_resnet50", "resnet50"),
        ("torchvision_efficientnet_b0", "efficientnet_b0"),
        ("torchvision_mobilenet_v2", "mobilenet_v2_x1_0"),
        ("torchvision_shufflenet_v2_x1_0", "shufflenet_v2_x1_0"),
        ("lukemelas_efficientnet-lite0", "efficientnet_lite0"),
        ("drconv_shufflenet_v2_x0.5", "shufflenet_v2_drconv_x0_5"),
    ],
)
def test_pytorch_weights(golden, name, tmp_path):
    source = golden.split("_")[0]
    weights = stand_in.load(golden)
    save_file({**weights, "bn1.num_batches_tracked": np.array(7)}, tmp_path / "a.safetensors")
    imported = import_weights(source, str(tmp_path / "a.safetensors"), name)
    assert (imported.num_assigned, imported.num_ignored, imported.num_classes) == (len(weights), 1, 1000)
    # As a user does: save to a file, and load it into a network for another image size.
    path = str(tmp_path / "a.weights.h5")
    save_weights(imported.model, path, imported.overrides, source)
    check(create_model(name, input_shape=shape(golden), weights=path), golden)
    assert read_metadata(path)["overrides"] == imported.overrides


def test_seesaw_weights_with_grouped_convolutions(tmp_path):
    golden = "seesaw_shuffle_1.0d_cifar10"
    weights = stand_in.load(golden)
    save_file(weights, tmp_path / "a.safetensors")
    imported = import_weights("seesaw", str(tmp_path / "a.safetensors"), "seesawnet_shuffle_1_0d_cifar")
    assert (imported.num_assigned, imported.num_ignored, imported.num_classes) == (len(weights), 0, 10)
    check(imported.model, golden)


@pytest.mark.parametrize("name", ["seesawnet_shuffle_0_5d", "igcv3_0_5d_cifar"])
def test_other_networks_with_the_names_of_the_seesaw_code(name, tmp_path):
    """The networks of depth 0.5, whose head has another number, and IGCV3, where all blocks have equal groups."""
    model = create_model(name, num_classes=7, input_shape=(32, 32, 3))
    rng = np.random.default_rng(0)
    weights = {}
    for layer in model.layers:
        block, _, part = layer.name.partition("_")
        for variable in layer.weights:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape) / np.sqrt(np.prod(variable.shape[:-1])))
        ours = {variable.path.rpartition("/")[2]: np.asarray(variable) for variable in layer.weights}
        if not ours:
            continue
        theirs = _SEESAW[layer.name] if layer.name in _SEESAW else f"features.{int(block[5:]) + 1}"
        even = getattr(model.get_layer(f"{block}_expand_conv"), "ratio", None) == (1, 1) if "block" in block else None
        kernels = [np.transpose(value, (3, 2, 0, 1)) for key, value in ours.items() if key.startswith("kernel_")]
        if kernels and even:
            weights[f"{theirs}.conv.{0 if 'expand' in part else 6}.weight"] = np.concatenate(kernels)
        elif kernels:
            for group, kernel in enumerate(kernels, start=1):
                weights[f"{theirs}.pwconv{group}{0 if 'expand' in part else 1}.0.weight"] = kernel
        elif isinstance(layer, keras.layers.BatchNormalization):
            if layer.name not in _SEESAW:
                theirs += "." + _SEESAW_NORMS[part][even]
            names = ("weight", "bias", "running_mean", "running_var")
            weights.update(zip((f"{theirs}.{key}" for key in names), map(np.asarray, layer.weights), strict=True))
        elif layer.name == "head_dense":
            weights["classifier.0.weight"], weights["classifier.0.bias"] = ours["kernel"].T, ours["bias"]
        elif layer.name in _SEESAW:
            weights[f"{theirs}.weight"] = np.transpose(ours["kernel"], (3, 2, 0, 1))
        else:
            weights[f"{theirs}.{'conv.3' if even else 'dwconv.0'}.weight"] = np.transpose(ours["kernel"], (2, 3, 0, 1))
    weights = {f"module.{key}": np.ascontiguousarray(value) for key, value in weights.items()}
    save_file(weights, tmp_path / "a.safetensors")
    imported = import_weights("seesaw", str(tmp_path / "a.safetensors"), name)
    assert (imported.num_assigned, imported.num_classes) == (len(weights), 7)
    assert name in imported.assumption
    for expected, actual in zip(model.weights, imported.model.weights, strict=True):
        np.testing.assert_array_equal(actual, expected, err_msg=expected.path)


_SEESAW = {
    "stem_conv": "features.0.0",
    "stem_bn": "features.0.1",
    "head_conv": "features.18.0",
    "head_bn": "features.18.1",
    "head_dense": "",
}
# Names in uneven blocks and in even blocks.
_SEESAW_NORMS = {
    "expand_bn": ("Permu2.0", "conv.1"),
    "depthwise_bn": ("dwconv.1", "conv.4"),
    "project_bn": ("Permu4.0", "conv.7"),
}


def test_tensorflow_1_checkpoint(write_tf1):
    golden = "tf1_efficientnet-condconv-b0-4e"
    variables = stand_in.load(golden)
    # The order of the variables in the checkpoint must not matter.
    shuffled = sorted(variables, key=lambda name: name[::-1])
    prefix = write_tf1({name: variables[name] for name in shuffled})
    imported = import_weights("tf1", prefix, "efficientnet_condconv_b0_4e")
    assert (imported.num_assigned, imported.num_ignored, imported.num_classes) == (len(variables), 0, 1000)
    check(imported.model, golden)
