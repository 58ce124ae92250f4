"""Lean networks: their lean layers and sizes, and adjoint steps."""

import keras
import numpy as np
import pytest

from convzoo import models
from convzoo.errors import ModelError
from convzoo.layers import LeanConv2D


def lean_layers(model):
    return [layer for layer in model.layers if isinstance(layer, LeanConv2D)]


@pytest.mark.graphs
# Computed independently from the rule: parameters and multiply-adds in millions.
@pytest.mark.parametrize(
    ("stencil", "group_size", "sizes"),
    [
        ("9-point", 1, {18: (1.96, 336), 34: (3.11, 552), 50: (15.53, 2456)}),
        ("5-point", 1, {18: (1.94, 330), 34: (3.08, 541), 50: (15.51, 2451)}),
        ("3-point-alternating", 1, {18: (1.93, 327), 34: (3.07, 535), 50: (15.50, 2448)}),
        ("9-point", 8, {18: (2.17, 420), 34: (3.54, 706), 50: (15.74, 2533)}),
        ("9-point", 32, {18: (2.91, 709), 34: (4.99, 1236), 50: (16.46, 2798)}),
    ],
)
def test_sizes_of_lean_resnets(stencil, group_size, sizes):
    for depth, (params, madds) in sizes.items():
        model = models.create_model(f"resnet{depth}", operator=models.Lean(stencil, group_size))
        count = models.count(model)
        assert (round(count.params / 1e6, 2), round(count.madds / 1e6)) == (params, madds)


@pytest.mark.graphs
def test_exactly_the_3x3_convolutions_of_the_blocks_are_lean():
    lean, dense = (models.create_model(name, input_shape=(32, 32, 3)) for name in ("lean_resnet50", "resnet50"))
    expected = [layer.name for layer in dense.layers if getattr(layer, "kernel_size", None) == (3, 3)]
    assert [layer.name for layer in lean_layers(lean)] == expected
    assert len(expected) == 16


def test_one_group_and_nine_points_equal_the_dense_network():
    arguments = {"num_classes": 5, "input_shape": (32, 32, 3), "width_coefficient": 0.25}
    dense = models.create_model("resnet18_cifar", **arguments)
    lean = models.create_model("resnet18_cifar", operator=models.Lean("9-point", None), **arguments)
    assert models.count(lean).params == models.count(dense).params
    assert models.count(lean).madds == models.count(dense).madds
    for layer in lean.layers:
        if isinstance(layer, LeanConv2D):
            layer.fit_dense(dense.get_layer(layer.name).kernel)
        else:
            layer.set_weights(dense.get_layer(layer.name).get_weights())
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(lean(x), dense(x), atol=1e-4)


@pytest.mark.graphs
def test_alternating_stencils_alternate_in_network_order():
    for name in ("lean_resnet18", "lean_resnet50"):
        model = models.create_model(name, input_shape=(32, 32, 3), operator={"stencil": "3-point-alternating"})
        stencils = [layer.stencil for layer in lean_layers(model)]
        assert set(stencils[::2]) == {"3-point-horizontal"}
        assert set(stencils[1::2]) == {"3-point-vertical"}


def test_adjoint_steps_halve_the_weights_and_keep_the_multiply_adds():
    arguments = {"input_shape": (32, 32, 3), "num_classes": 5}
    standard = models.create_model("lean_resnet18", **arguments)
    model = models.create_model("lean_resnet18", operator={"adjoint_step": True}, **arguments)
    assert models.count(model).madds == models.count(standard).madds
    # Each of the five blocks that keep resolution and width has one convolution and one normalization less.
    saved = sum(64 * m * (64 * m + 4) + 2 * 64 * m for m in (1, 1, 2, 4, 8))
    assert models.count(standard).params - models.count(model).params == saved
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 64)).astype("float32")
    block = keras.Model(model.get_layer("stem_pool").output, model.get_layer("block0_subtract").output)
    conv, norm = model.get_layer("block0_conv"), model.get_layer("block0_bn")
    hidden = np.maximum(np.asarray(norm(conv(x), training=False)), 0)
    np.testing.assert_allclose(block(x, training=False), x - np.asarray(conv(hidden, transposed=True)), atol=1e-5)


@pytest.mark.graphs
@pytest.mark.parametrize(
    ("name", "operator", "value"),
    [
        ("lean_resnet18", {"stencil": "4-point"}, "'4-point'"),
        ("lean_resnet18", {"group_size": 3}, "3 .*64"),
        ("lean_resnet18", {"group_size": 0}, "group_size .*0"),
        ("resnet18", {"group_size": 8}, "group_size.*name.*Lean"),
        ("lean_resnet50", {"adjoint_step": True}, "adjoint_step.*lean_resnet50"),
        ("mobilenet_v2_x1_0", models.Lean(), "3x3 convolutions.*mobilenet_v2_x1_0"),
        ("resnet50_condconv", {"stencil": "5-point"}, "CondConv has no setting 'stencil'"),
    ],
)
def test_invalid_operators(name, operator, value):
    with pytest.raises(ModelError, match=value) as error:
        models.create_model(name, operator=operator)
    assert len(str(error.value).splitlines()) == 1
