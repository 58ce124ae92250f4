"""With the same weights, our networks give the logits of the implementations that the weights come from."""

import keras
import numpy as np
import pytest
from goldens import stand_in
from safetensors.numpy import save_file

from convzoo.models import create_model, read_record, save_weights
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
        ("drconv_shufflenet_v2_x0.5", "shufflenet_v2_drconv_x0_5"),
    ],
)
def test_files_of_torch(golden, name, tmp_path):
    source = golden.split("_")[0]
    weights = stand_in.load(golden)
    save_file({**weights, "bn1.num_batches_tracked": np.array(7)}, tmp_path / "a.safetensors")
    imported = import_weights(source, str(tmp_path / "a.safetensors"), name)
    assert (imported.carried, imported.left_aside, imported.num_classes) == (len(weights), 1, 1000)
    # The way of a user: through a file, to a network for pictures of another size.
    path = str(tmp_path / "a.weights.h5")
    save_weights(imported.model, path, imported.overrides, source)
    check(create_model(name, input_shape=shape(golden), weights=path), golden)
    assert read_record(path)["overrides"] == imported.overrides


def test_a_file_with_convolutions_in_groups(tmp_path):
    golden = "seesaw_shuffle_1.0d_cifar10"
    weights = stand_in.load(golden)
    save_file(weights, tmp_path / "a.safetensors")
    imported = import_weights("seesaw", str(tmp_path / "a.safetensors"), "seesawnet_shuffle_1_0d_cifar")
    assert (imported.carried, imported.left_aside, imported.num_classes) == (len(weights), 0, 10)
    check(imported.model, golden)


def test_a_checkpoint_of_tensorflow_1(write_tf1):
    golden = "tf1_efficientnet-condconv-b0-4e"
    variables = stand_in.load(golden)
    # A checkpoint has no order: the listing's must not matter.
    shuffled = sorted(variables, key=lambda name: name[::-1])
    prefix = write_tf1({name: variables[name] for name in shuffled})
    imported = import_weights("tf1", prefix, "efficientnet_condconv_b0_4e")
    assert (imported.carried, imported.left_aside, imported.num_classes) == (len(variables), 0, 1000)
    check(imported.model, golden)
