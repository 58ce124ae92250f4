"""Weight files: metadata, loading, new classifiers, and errors."""

import contextlib
import pathlib

import keras
import numpy as np
import pytest

from convzoo.errors import ModelError
from convzoo.models import create_model, load_weights, read_metadata, save_weights

NAME = "efficientnet_condconv_b0_4e"
SMALL = {
    "blocks": ("r1_k3_s11_e1_i32_o16_se0.25", "r1_k3_s22_e2_i16_o24_se0.25"),
    "width_coefficient": 0.25,
    "operator": {"num_experts": 2, "first_block": 1},
}
IMAGES = np.random.default_rng(0).normal(size=(3, 32, 32, 3)).astype("float32")


def small(num_classes=4, **overrides):
    return create_model(NAME, num_classes, (32, 32, 3), **{**SMALL, **overrides})


def run(model):
    return keras.tree.map_structure(keras.ops.convert_to_numpy, model(IMAGES, training=False))


@pytest.fixture
def saved(tmp_path):
    model = small()
    # Differ from a newly initialized network's weights and statistics.
    for weight in model.weights:
        weight.assign(weight + 0.01)
    path = str(tmp_path / "folder" / "a.weights.h5")
    save_weights(model, path, {**SMALL, "dropout_rate": 0.1}, "a test")
    return model, path


def test_metadata_rebuilds_the_network(saved):
    model, path = saved
    metadata = read_metadata(path)
    assert metadata.pop("fingerprint")
    assert metadata.pop("checksum")
    assert metadata == {
        "model": NAME,
        "num_classes": 4,
        "overrides": {**SMALL, "dropout_rate": 0.1},
        "source": "a test",
    }
    rebuilt = create_model(NAME, input_shape=(32, 32, 3), weights=path)
    assert rebuilt.get_layer("head_dropout").rate == 0.1
    np.testing.assert_array_equal(run(rebuilt), run(model))
    # The caller's overrides take precedence over the file's.
    other = create_model(NAME, input_shape=(32, 32, 3), weights=path, dropout_rate=0.3)
    assert other.get_layer("head_dropout").rate == 0.3


def test_another_number_of_classes_loads_the_backbone(saved):
    model, path = saved
    with pytest.warns(UserWarning, match="4 classes.* 7 classes"):
        other = create_model(NAME, 7, (32, 32, 3), weights=path)
    assert other.output_shape == (None, 7)
    before = {weight.path: weight for weight in model.weights}
    for weight in other.weights:
        if not weight.path.startswith("head_dense"):
            np.testing.assert_array_equal(weight.numpy(), before[weight.path].numpy())


def test_new_classifier_keeps_its_weights(saved, recwarn):
    model, path = saved
    other = small()
    kernel = other.get_layer("head_dense").kernel.numpy()
    assert sorted(load_weights(other, path, new_classifier=True)) == ["head_dense/bias", "head_dense/kernel"]
    np.testing.assert_array_equal(other.get_layer("head_dense").kernel.numpy(), kernel)
    np.testing.assert_array_equal(
        other.get_layer("block1_expand_conv").kernel.numpy(), model.get_layer("block1_expand_conv").kernel.numpy()
    )
    assert load_weights(other, path) == []
    np.testing.assert_array_equal(run(other), run(model))
    assert not [warning for warning in recwarn if "classes" in str(warning.message)]


def test_network_without_a_classifier_loads_the_backbone(saved):
    model, path = saved
    features = create_model(NAME, input_shape=(32, 32, 3), weights=path, features=True)
    head = keras.Model(model.input, model.get_layer("head_activation").output)
    np.testing.assert_array_equal(run(features)["head"], run(head))


def test_file_without_metadata(saved, tmp_path):
    model, _ = saved
    path = str(tmp_path / "keras.weights.h5")
    model.save_weights(path)
    assert read_metadata(path) == {}
    np.testing.assert_array_equal(run(small(weights=path)), run(model))
    with pytest.raises(ModelError, match=NAME):
        small(weights=path, operator={"num_experts": 3, "first_block": 1})
    with pytest.raises(ModelError, match=NAME):
        small(5, weights=path)


def test_smaller_and_other_networks_are_rejected(saved):
    _, path = saved
    # Keras would load it from the first layers of each class without an error.
    with pytest.raises(ModelError, match=r"efficientnet_condconv_b0_4e.*blocks"):
        create_model(NAME, 4, (32, 32, 3), weights=path, operator={"first_block": 0}, blocks=SMALL["blocks"][:1])
    shuffled = create_model("shufflenet_v2_x0_5", 4, (32, 32, 3), layout="torchvision")
    path = path.replace("a.weights", "b.weights")
    save_weights(shuffled, path, {"layout": "torchvision"})
    with pytest.raises(ModelError, match=r"'shufflenet_v2_x0_5'.*'resnet18'"):
        create_model("resnet18", weights=path)  # which has no such override


def test_changed_bytes_and_nan_are_refused(saved, tmp_path):
    model, path = saved
    content = pathlib.Path(path).read_bytes()
    values = keras.ops.convert_to_numpy(model.get_layer("stem_conv").kernel).tobytes()[:64]
    at = content.index(values)
    pathlib.Path(path).write_bytes(content[:at] + b"\x01\x02" + content[at + 2 :])
    with pytest.raises(ModelError, match=r"damaged.*values have changed"):
        small(weights=path)
    rng = np.random.default_rng(0)
    for _ in range(40):  # anywhere: an error of one line, or nothing of the values has changed
        at = rng.integers(len(content))
        pathlib.Path(path).write_bytes(content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :])
        with contextlib.suppress(ModelError):
            np.testing.assert_array_equal(run(small(weights=path)), run(model))
    kernel = model.get_layer("block0_project_conv").kernel
    kernel.assign(kernel * float("nan"))
    for write in (lambda path: save_weights(model, path), model.save_weights):
        write(str(tmp_path / "nan.weights.h5"))
        with pytest.raises(ModelError, match="block0_project_conv/kernel has NaN"):
            small(weights=str(tmp_path / "nan.weights.h5"))


def test_errors_leave_network_and_files_unchanged(saved, tmp_path):
    model, path = saved
    model = small(operator={"num_experts": 3, "first_block": 1})
    before = run(model)
    with pytest.raises(ModelError, match=NAME):
        load_weights(model, path)
    np.testing.assert_array_equal(run(model), before)
    with pytest.raises(ModelError, match=f"'{NAME}'.*'efficientnet_b0'"):
        create_model("efficientnet_b0", weights=path)
    with pytest.raises(ModelError, match=r"none\.weights\.h5"):
        create_model(NAME, weights=str(tmp_path / "none.weights.h5"))
    with pytest.raises(ModelError, match=r"model\.ckpt.*\.weights\.h5"):
        create_model(NAME, weights=str(tmp_path / "model.ckpt"))
    (tmp_path / "text.weights.h5").write_text("no weights")
    with pytest.raises(ModelError, match=r"text\.weights\.h5"):
        create_model(NAME, weights=str(tmp_path / "text.weights.h5"))
    with pytest.raises(ModelError, match="overrides"):
        save_weights(model, str(tmp_path / "b.weights.h5"), {"activation": object()})
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match=r"b\.weights\.h5"):
        save_weights(model, str(tmp_path / "file" / "b.weights.h5"))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder", "text.weights.h5"]
