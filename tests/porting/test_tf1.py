"""TensorFlow 1 checkpoints: variable names, moving averages, optimizer slots, and invalid checkpoints."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from convzoo.errors import ModelError
from convzoo.porting import import_weights

NAME = "efficientnet_condconv_b0_4e"
# Two blocks of 8 channels, the first without expansion; the width is a quarter of what `blocks` says.
TINY = {
    "blocks": ("r1_k3_s11_e1_i32_o16_se0.25", "r1_k5_s22_e2_i16_o24_se0.25"),
    "width_coefficient": 0.25,
    "operator": {"num_experts": 2, "first_block": 1},
}
NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def variables(normalization="tpu_batch_normalization", scope="model/"):
    """Returns {name in the TensorFlow 1 code: values} of the tiny network, and {name: our path}."""
    layers = {
        "stem/conv2d/kernel": ("stem_conv/kernel", (3, 3, 3, 8)),
        "blocks_0/depthwise_conv2d/depthwise_kernel": ("block0_depthwise_conv/kernel", (3, 3, 8, 1)),
        "blocks_0/se/conv2d/kernel": ("block0_se_reduce/kernel", (1, 1, 8, 2)),
        "blocks_0/se/conv2d/bias": ("block0_se_reduce/bias", (2,)),
        "blocks_0/se/conv2d_1/kernel": ("block0_se_expand/kernel", (1, 1, 2, 8)),
        "blocks_0/se/conv2d_1/bias": ("block0_se_expand/bias", (8,)),
        "blocks_0/conv2d/kernel": ("block0_project_conv/kernel", (1, 1, 8, 8)),
        "blocks_1/dense/kernel": ("block1_routing/kernel", (8, 2)),
        "blocks_1/dense/bias": ("block1_routing/bias", (2,)),
        # Numbered over the whole network; the numeric order of 9 and 10 is not the alphabetical one.
        f"{scope}blocks_1/cond_conv2d_9/condconv_kernel": ("block1_expand_conv/kernel", (2, 8 * 16)),
        f"{scope}blocks_1/cond_conv2d_10/condconv_kernel": ("block1_project_conv/kernel", (2, 16 * 8)),
        f"{scope}blocks_1/depthwise_cond_conv2d_3/depthwise_condconv_kernel": (
            "block1_depthwise_conv/depthwise_kernel",
            (2, 5 * 5 * 16),
        ),
        "blocks_1/se/conv2d/kernel": ("block1_se_reduce/kernel", (1, 1, 16, 2)),
        "blocks_1/se/conv2d/bias": ("block1_se_reduce/bias", (2,)),
        "blocks_1/se/conv2d_1/kernel": ("block1_se_expand/kernel", (1, 1, 2, 16)),
        "blocks_1/se/conv2d_1/bias": ("block1_se_expand/bias", (16,)),
        "head/conv2d/kernel": ("head_conv/kernel", (1, 1, 8, 320)),
        "head/dense/kernel": ("head_dense/kernel", (320, 1001)),
        "head/dense/bias": ("head_dense/bias", (1001,)),
    }
    for layer, ours, channels in (
        (f"stem/{normalization}", "stem_bn", 8),
        (f"blocks_0/{normalization}", "block0_depthwise_bn", 8),
        (f"blocks_0/{normalization}_1", "block0_project_bn", 8),
        (f"blocks_1/{normalization}", "block1_expand_bn", 16),
        (f"blocks_1/{normalization}_1", "block1_depthwise_bn", 16),
        (f"blocks_1/{normalization}_2", "block1_project_bn", 8),
        (f"head/{normalization}", "head_bn", 320),
    ):
        layers |= {f"{layer}/{variable}": (f"{ours}/{variable}", (channels,)) for variable in NORM}
    rng = np.random.default_rng(0)
    values = {f"net/{name}": rng.uniform(0.5, 1, size).astype("float32") for name, (_, size) in layers.items()}
    return values, {f"net/{name}": path for name, (path, _) in layers.items()}


def load(prefix, **options):
    return import_weights("tf1", prefix, NAME, TINY, **options)


def check(imported, values, paths):
    actual = {weight.path: keras.ops.convert_to_numpy(weight.value) for weight in imported.model.weights}
    assert sorted(actual) == sorted(paths.values())
    for name, path in paths.items():
        np.testing.assert_array_equal(actual[path].ravel(), values[name].ravel(), err_msg=path)


@pytest.mark.parametrize("normalization", ["tpu_batch_normalization", "batch_normalization"])
@pytest.mark.parametrize("scope", ["model/", ""])
def test_names_with_and_without_model_scope(write_tf1, normalization, scope):
    values, paths = variables(normalization, scope)
    imported = load(write_tf1(values))
    assert imported.num_classes == 1001
    check(imported, values, paths)


@pytest.fixture
def training(write_tf1):
    """A training checkpoint with moving averages, optimizer slots and counters."""
    values, paths = variables()
    averages = {name: value + 1 for name, value in values.items()}
    stored = {
        **values,
        **{f"{name}/ExponentialMovingAverage": value for name, value in averages.items()},
        "global_step": np.array(350_000, "int64"),
        "beta1_power": np.array(0.9, "float32"),
    }
    for name, value in values.items():
        if not name.endswith(NORM[2:]):
            stored |= {f"{name}/{slot}": 0 * value for slot in ("RMSProp", "RMSProp_1", "Momentum")}
    return write_tf1(stored), stored, values, averages, paths


def test_averages_slots_and_counters(training):
    prefix, stored, values, averages, paths = training
    imported = load(prefix)
    check(imported, values, paths)
    assert imported.num_ignored == len(stored) - len(values)
    check(load(prefix, ema=True), averages, paths)


def test_averages_of_trainable_variables_only(write_tf1):
    values, paths = variables()
    averages = {name: value if name.endswith(NORM[2:]) else value + 1 for name, value in values.items()}
    shadows = {
        f"{name}/ExponentialMovingAverage": value for name, value in averages.items() if not name.endswith(NORM[2:])
    }
    check(load(write_tf1({**values, **shadows}), ema=True), averages, paths)


def test_averages_without_weights(write_tf1):
    values, paths = variables()
    prefix = write_tf1({f"{name}/ExponentialMovingAverage": value for name, value in values.items()})
    check(load(prefix, ema=True), values, paths)
    with pytest.raises(ModelError, match="--ema"):
        load(prefix)


def test_missing_average(training, write_tf1):
    _, stored, *_ = training
    del stored["net/head/dense/bias/ExponentialMovingAverage"]
    with pytest.raises(ModelError, match=r"1 missing: head_dense/bias$"):
        load(write_tf1(stored, "other.ckpt"), ema=True)


def test_ema_without_averages(write_tf1):
    with pytest.raises(ModelError, match="--ema"):
        load(write_tf1(variables()[0]), ema=True)


def test_unexpected_variables_are_not_taken_for_slots(write_tf1):
    values, _ = variables()
    values["net/blocks_1/conv2d/kernel"] = np.ones((1, 1, 8, 8), "float32")
    values["net/head/dense/bias/Other"] = np.ones(3, "float32")  # below a weight in the hierarchy, but of another shape
    values["net/blocks_2/se/conv2d/bias"] = np.ones(3, "float32")
    with pytest.raises(ModelError, match=r"\d unexpected: ") as error:
        load(write_tf1(values))
    for name in ("net/head/dense/bias/Other", "net/blocks_2/se/conv2d/bias"):
        assert name in str(error.value)


def test_any_file_of_the_checkpoint_or_its_folder(write_tf1, tmp_path):
    values, paths = variables()
    prefix = write_tf1(values)
    for path in (f"{prefix}.index", f"{prefix}.meta", f"{prefix}.data-00000-of-00001", str(tmp_path)):
        check(load(path), values, paths)


def test_invalid_checkpoints(write_tf1, tmp_path):
    with pytest.raises(ModelError, match=r"nowhere\.ckpt"):
        load(str(tmp_path / "nowhere.ckpt"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="empty"):
        load(str(tmp_path / "empty"))
    second = tf.train.Checkpoint(v=tf.Variable(tf.ones(3))).write(str(tmp_path / "second"))
    with pytest.raises(ModelError, match="TensorFlow 2"):
        load(second)
    prefix = write_tf1(variables()[0])
    with open(f"{prefix}.data-00000-of-00001", "r+b") as file:
        file.truncate(1000)
    with pytest.raises(ModelError, match=r"model\.ckpt"):
        load(prefix)
    (tmp_path / "text.index").write_text("text")
    with pytest.raises(ModelError, match="text"):
        load(str(tmp_path / "text"))
