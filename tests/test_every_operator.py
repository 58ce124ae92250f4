"""Every operator in every family of networks: it builds, counts, trains a step, saves and exports, or says why not."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from convzoo import models
from convzoo.errors import ModelError
from convzoo.serving.saved_model import export_saved_model
from convzoo.tasks import TASKS

_MBCONV = {"blocks": ("r1_k3_s11_e1_i32_o16", "r2_k3_s22_e2_i16_o24"), "width_coefficient": 0.5}
# A small network of each family: a registered name, and overrides.
NETWORKS = {
    "efficientnet_b0": {
        "blocks": ("r1_k3_s11_e1_i32_o16_se0.25", "r2_k3_s22_e2_i16_o24_se0.25"),
        "width_coefficient": 0.5,
        "survival_prob": 1.0,
    },
    "mnasnet_a1": _MBCONV,
    "mobilenet_v1_x0_25": {"blocks": ((32, 1), (64, 2))},
    "mobilenet_v2_x1_0": _MBCONV,
    "resnet18": {"repeats": (1, 2), "width_coefficient": 0.125},
    "resnet50": {"repeats": (1, 2), "width_coefficient": 0.125},
    "shufflenet_v2_x0_5": {"widths": (48, 64), "repeats": (2, 1)},
    "seesawnet_shuffle_0_5d": {"stages": ((1, 16, 1, 1), (2, 24, 2, 2))},
}
OPERATORS = {
    "CondConv": models.CondConv(num_experts=2, stem=True, classifier=True),
    "CondConv per layer": models.CondConv(
        2, scope="layer", routing="softmax", temperature=30.0, annealing_steps=4, first_block=1
    ),
    "DRConv": models.DRConv(regions=2, bank_size=2),
    "DRConv per layer": models.DRConv(regions=2, bank_size=2, generator="grouped", mask_per="layer"),
    "Lean": models.Lean(group_size=4),
    "UnevenGroups": models.UnevenGroups(ratio=(1, 3)),
    "UnevenGroups share": models.UnevenGroups(ratio=(1, 3), mixing="share"),
    "Static": models.Static(),
}
ARGUMENTS = {"num_classes": 3, "input_shape": (16, 16, 3), "stem_strides": 1, "dropout_rate": 0.0}
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)).astype("uint8")


def _why_not(network, operator):
    """Returns what the operator misses in the network, or None."""
    if isinstance(operator, models.Lean) and not network.startswith("resnet"):
        return "3x3 convolutions"
    if isinstance(operator, (models.DRConv, models.UnevenGroups)) and network == "resnet18":
        return "1x1 convolutions"
    return None


def _is_exported(network, operator):
    """Returns whether a pair is exported: every network and every operator is in one; test_every_network has more."""
    return network == ("resnet50" if isinstance(operator, models.Lean) else "mobilenet_v2_x1_0") or (
        operator == OPERATORS["CondConv"]
    )


PAIRS = [
    pytest.param(network, operator, id=f"{network}-{name}")
    for network in NETWORKS
    for name, operator in OPERATORS.items()
    if not _why_not(network, operator)
]
IMPOSSIBLE = [
    pytest.param(network, operator, id=f"{network}-{name}")
    for network in NETWORKS
    for name, operator in OPERATORS.items()
    if _why_not(network, operator)
]


def _build(network, operator):
    keras.utils.set_random_seed(0)
    return models.create_model(network, **ARGUMENTS, **NETWORKS[network], operator=operator)


def _train_one_step(model):
    """Updates every weight by gradient descent."""
    images = tf.constant(IMAGES, tf.float32) / 127.5 - 1.0
    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        assert logits.dtype == tf.float32
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(np.arange(4) % 3, logits))
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert np.all(np.isfinite(gradient)), weight.path
        assert np.any(gradient), f"the gradient of {weight.path} is zero"
        weight.assign_sub(0.01 * gradient)


@pytest.mark.parametrize(("network", "operator"), PAIRS)
def test_an_operator_in_a_network(network, operator, tmp_path):
    model = _build(network, operator)
    # The Seesaw networks have groups of their own.
    assert any(isinstance(layer, operator.LAYERS) for layer in model.layers) == bool(operator.LAYERS)
    assert models.count(model).params == sum(np.prod(weight.shape) for weight in model.trainable_weights)
    _train_one_step(model)
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        _train_one_step(_build(network, operator))
    finally:
        keras.config.set_dtype_policy("float32")

    images = tf.constant(IMAGES, tf.float32) / 127.5 - 1.0
    expected = model(images, training=False)
    path = str(tmp_path / "net.weights.h5")
    models.save_weights(
        model, path, {**NETWORKS[network], "stem_strides": 1, "dropout_rate": 0.0, "operator": operator}
    )
    loaded = models.create_model(network, input_shape=(16, 16, 3), weights=path)
    np.testing.assert_allclose(loaded(images, training=False), expected, rtol=1e-5, atol=1e-6)

    if not _is_exported(network, operator):
        return
    folder = str(tmp_path / "saved_model")
    settings = {"image_size": (16, 16), "mean": (127.5,) * 3, "std": (127.5,) * 3, "crop_fraction": 1.0}
    export_saved_model(model, folder, list("abc"), TASKS["classification"], **settings, interpolation="bilinear")
    served = tf.saved_model.load(folder).signatures["images"](images=IMAGES)["logits"]
    np.testing.assert_allclose(served, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("network", "operator"), IMPOSSIBLE)
def test_an_operator_that_has_nothing_to_replace_says_so(network, operator):
    with pytest.raises(ModelError, match=f"{_why_not(network, operator)} of blocks, and {network} has none"):
        _build(network, operator)


def test_no_builder_has_an_argument_of_an_operator():
    """And none has more than ten arguments of its own, besides those that all builders share."""
    import inspect

    from convzoo.models import mbconv, mobilenet_v1, resnet, seesawnet, shufflenet_v2

    builders = (
        mbconv.mbconv_network,
        mobilenet_v1.mobilenet_v1,
        resnet.resnet,
        seesawnet.seesawnet,
        shufflenet_v2.shufflenet_v2,
    )
    signatures = [set(inspect.signature(builder).parameters) for builder in builders]
    shared = set.intersection(*signatures)
    assert "operator" in shared
    settings = {name for operator in OPERATORS.values() for name in models.operators.to_fields(operator)} - {"name"}
    for signature in signatures:
        assert not signature & settings
        assert len(signature - shared) <= 10
