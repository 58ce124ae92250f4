"""Conversion of trained Keras networks to the four operators."""

import json
import warnings

import keras
import numpy as np
import pytest

from convzoo import models
from convzoo.errors import ModelError
from convzoo.layers import CondConv2D, CondDense, DepthwiseCondConv2D, DRConv2D, LeanConv2D, UnevenPointwiseConv2D

EXACT = [
    models.CondConv(num_experts=3),
    models.CondConv(num_experts=1, classifier=True),
    models.DRConv(regions=3, bank_size=2),
    models.DRConv(regions=1),
    models.DRConv(regions=2, bank_size=2, generator="grouped"),
]


def randomize(model, seed=0):
    """Gives every weight of a network a random value, so that no output is constant."""
    rng = np.random.default_rng(seed)

    def draw(weight):
        if weight.path.endswith(("kernel", "embeddings")):
            return rng.normal(scale=1 / np.sqrt(np.prod(weight.shape[:-1])), size=weight.shape)
        return rng.uniform(0.5, 1.5, size=weight.shape)

    model.set_weights([draw(weight) for weight in model.weights])
    return model


def images(size=16, channels=3):
    return np.random.default_rng(1).normal(size=(2, size, size, channels)).astype("float32")


def foreign():
    """A network of another project, with convolutions of every kind, an operation and a shared layer."""
    inputs = keras.Input((16, 16, 3), name="images")
    x = keras.layers.Conv2D(8, 3, padding="same", name="first")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Conv2D(16, 3, 2, "same", activation="relu", kernel_regularizer="l2", name="wider")(x)
    x = keras.layers.Conv2D(16, 3, padding="same", groups=2, use_bias=False, name="grouped")(x)
    x = keras.layers.DepthwiseConv2D(3, name="depthwise")(x)
    y = keras.layers.Conv2D(16, 3, dilation_rate=2, padding="same", use_bias=False, name="dilated")(x)
    shared = keras.layers.Conv2D(16, 1, name="point")
    x = shared(keras.ops.tanh(shared(keras.layers.Add()([x, y])) + 0.5))
    scale = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = x * keras.layers.Conv2D(16, 1, activation="sigmoid", name="squeezed")(scale)
    return keras.Model(inputs, keras.layers.Dense(4, name="head")(keras.layers.GlobalAveragePooling2D()(x)))


def names_of(model, *classes):
    return [layer.name for layer in model.layers if isinstance(layer, classes)]


@pytest.mark.needs_xla_cpu
@pytest.mark.parametrize(
    ("operator", "noise"),
    [(operator, noise) for operator in EXACT for noise in (0.0, 0.5) if operator.makes_copies or not noise],
    ids=str,
)
def test_the_outputs_stay_the_same(operator, noise):
    model = randomize(foreign())
    before = model.get_weights()
    converted = models.convert(model, operator, noise=noise)
    np.testing.assert_allclose(converted(images()), model(images()), atol=1e-5)
    assert [layer.name for layer in converted.layers] == [layer.name for layer in model.layers]
    for after, unchanged in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(after, unchanged)


def test_noise_tells_the_copies_apart():
    model = randomize(foreign())
    for operator, name in ((models.CondConv(num_experts=4), "wider"), (models.DRConv(bank_size=4), "point")):
        same = models.convert(model, operator).get_layer(name).kernel
        assert not np.ptp(np.asarray(same), axis=0).any()
        noisy = np.asarray(models.convert(model, operator, noise=0.1).get_layer(name).kernel)
        spread = (noisy - noisy.mean(axis=0)).std() * np.sqrt(4 / 3) / noisy.mean(axis=0).std()
        # Noise of variance 1, less its mean over 4 copies, scaled by sqrt(4 / 3), has variance 1.
        assert spread == pytest.approx(0.1 * np.sqrt(4 / 3), rel=0.1)
        other = models.convert(model, operator, noise=0.1, seed=1).get_layer(name).kernel
        assert np.abs(np.asarray(other) - noisy).max() > 0


@pytest.mark.graphs
@pytest.mark.parametrize(
    ("operator", "classes", "expected"),
    [
        (
            models.CondConv(),
            (CondConv2D, DepthwiseCondConv2D, CondDense),
            ["wider", "grouped", "depthwise", "dilated", "point"],
        ),
        (models.CondConv(classifier=True), (CondDense,), ["head"]),
        (models.DRConv(), (DRConv2D,), ["point"]),
        (models.Lean(group_size=2), (LeanConv2D,), ["wider", "dilated"]),
        (models.UnevenGroups(), (UnevenPointwiseConv2D,), ["point"]),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:.*fits the")
def test_what_an_operator_replaces(operator, classes, expected):
    assert names_of(models.convert(foreign(), operator), *classes) == expected


@pytest.mark.graphs
def test_where():
    model = foreign()
    by_pattern = models.convert(model, models.DRConv(), where=["dil*", "first"])
    assert names_of(by_pattern, DRConv2D) == ["first", "dilated"]
    by_function = models.convert(model, models.CondConv(), where=lambda layer: layer.name in ("head", "first"))
    assert names_of(by_function, CondConv2D, CondDense) == ["first", "head"]


@pytest.mark.graphs
def test_settings_of_the_layers_are_kept():
    model = foreign()
    model.get_layer("wider").trainable = False
    lean, cond = models.convert(model, models.Lean()), models.convert(model, models.CondConv())
    for converted in (lean, cond):
        wider, dilated = converted.get_layer("wider"), converted.get_layer("dilated")
        assert (wider.strides, wider.activation.__name__, wider.use_bias) == ((2, 2), "relu", True)
        assert wider.kernel_regularizer is not None
        assert not wider.trainable_weights
        assert (dilated.dilation_rate, dilated.use_bias, dilated.trainable) == ((2, 2), False, True)


def test_lean_and_uneven_groups_keep_the_entries_that_they_have():
    model = randomize(foreign())
    with pytest.warns(UserWarning, match=r"2 kernels of .* relative error of 0\.\d\d"):
        lean = models.convert(model, models.Lean(group_size=2))
    fitted, dense = np.asarray(lean.get_layer("wider").to_dense()), np.asarray(model.get_layer("wider").kernel)
    np.testing.assert_array_equal(fitted[fitted != 0], dense[fitted != 0])
    np.testing.assert_array_equal(fitted[1, 1], dense[1, 1])
    with pytest.warns(UserWarning, match=r"1 kernels of .* relative error of 0\.\d\d"):
        uneven = models.convert(model, models.UnevenGroups((1, 3), "reversed"))
    fitted, dense = np.asarray(uneven.get_layer("point").to_dense()), np.asarray(model.get_layer("point").kernel)
    np.testing.assert_array_equal(fitted[..., :12, :12], dense[..., :12, :12])
    np.testing.assert_array_equal(fitted[..., 12:, 12:], dense[..., 12:, 12:])
    assert not fitted[..., :12, 12:].any()
    np.testing.assert_array_equal(uneven.get_layer("point").bias, model.get_layer("point").bias)


def test_a_lean_layer_with_all_weights_fits_exactly():
    model = randomize(foreign())
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        lean = models.convert(model, models.Lean("9-point", group_size=None))
    np.testing.assert_allclose(lean(images()), model(images()), atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*fits the")
def test_alternating_stencils_in_a_sequential_network():
    model = keras.Sequential([keras.Input((8, 8, 4)), *(keras.layers.Conv2D(8, 3) for _ in range(3))])
    lean = models.convert(model, models.Lean("3-point-alternating"))
    assert [layer.stencil for layer in lean.layers[1:]] == ["3-point-horizontal", "3-point-vertical"]


@pytest.mark.needs_xla_cpu
def test_nested_transfer_learning_model(tmp_path):
    backbone = models.create_model("mobilenet_v1_x0_25", input_shape=(64, 64, 3), include_top=False)
    backbone.trainable = False
    head = keras.Sequential([keras.layers.Conv2D(8, 1, name="mix"), keras.layers.GlobalAveragePooling2D()], name="head")
    model = keras.Sequential([keras.Input((64, 64, 3)), backbone, head, keras.layers.Dense(3)])
    randomize(model)
    converted = models.convert(model, models.CondConv(num_experts=2), noise=0.1)
    np.testing.assert_allclose(converted(images(64)), model(images(64)), atol=1e-4)
    assert not converted.layers[0].trainable_weights
    frozen = [np.asarray(weight) for weight in converted.layers[0].weights]
    converted.compile("sgd", "mse")
    converted.fit(images(64), np.ones((2, 3), "float32"), verbose=0)
    for weight, before in zip(converted.layers[0].weights, frozen, strict=True):
        np.testing.assert_array_equal(weight, before)
    assert type(converted.layers[1].layers[0]) is CondConv2D
    converted.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(images(64)), converted(images(64)), atol=1e-5)


def test_a_compiled_model_stays_compiled():
    model = randomize(foreign())
    model.get_layer("wider").trainable = False
    model.compile("adam", "mse")
    converted = models.convert(model, models.CondConv(num_experts=2), noise=0.1)
    frozen = np.asarray(converted.get_layer("wider").kernel)
    converted.fit(images(), np.ones((2, 4), "float32"), verbose=0)
    np.testing.assert_array_equal(converted.get_layer("wider").kernel, frozen)
    assert converted.optimizer is not model.optimizer


def test_training_goes_on_and_moves_the_experts_apart():
    model = randomize(foreign())
    converted = models.convert(model, models.CondConv(num_experts=2), noise=0.1)
    before = np.asarray(converted.get_layer("wider").routing.kernel)
    converted.compile(keras.optimizers.SGD(0.1), "mse")
    converted.fit(images(), np.ones((2, 4), "float32"), epochs=2, verbose=0)
    after = np.asarray(converted.get_layer("wider").routing.kernel)
    assert np.abs(after[:, 0] - after[:, 1]).max() > 0
    assert not before.any()


@pytest.mark.graphs
@pytest.mark.parametrize("name", ["MobileNetV2", "ResNet50", "EfficientNetV2B0"])
def test_networks_of_keras_applications(name):
    model = getattr(keras.applications, name)(input_shape=(32, 32, 3), weights=None, include_top=False, pooling="avg")
    x = 255 * np.random.default_rng(0).uniform(size=(2, 32, 32, 3)).astype("float32")
    randomize(model)
    expected = np.asarray(model(x))
    assert expected.std() > 0
    for operator in (models.CondConv(num_experts=2), models.DRConv(regions=2, bank_size=2)):
        converted = models.convert(model, operator, noise=0.1)
        np.testing.assert_allclose(converted(x), expected, atol=1e-4 * np.abs(expected).max())
        assert converted.count_params() > 1.1 * model.count_params()


@pytest.mark.graphs
@pytest.mark.parametrize(
    ("make", "value"),
    [
        (lambda: models.CondConv(num_experts=0), "num_experts .* 0"),
        (lambda: models.DRConv(regions=True), "regions .* True"),
        (lambda: models.DRConv(generator="bank"), "'bank'"),
        (lambda: models.Lean("7-point"), "'7-point'"),
        (lambda: models.Lean(None), "None"),
        (lambda: models.Lean(group_size=-1), "group_size .*-1"),
        (lambda: models.UnevenGroups((2, 6)), r"\(2, 6\)"),
        (lambda: models.UnevenGroups(3), "3|int"),
        (lambda: models.UnevenGroups(order="back"), "'back'"),
        (lambda: models.convert(foreign(), "lean"), "'lean'"),
        (lambda: models.convert(foreign(), models.Lean(group_size=5)), "group_size=5"),
        (lambda: models.convert(foreign(), models.CondConv(), noise=-1), "noise .*-1"),
        (lambda: models.convert(foreign(), models.Lean(), noise=0.1), "noise=0.1 has no effect"),
        (lambda: models.convert(foreign(), models.CondConv(), noise=0.1, seed=0.5), "seed .*0.5"),
        (lambda: models.convert(foreign(), models.CondConv(), where=3), "where .*3"),
        (lambda: models.convert(foreign(), models.CondConv(), where=["first", 3]), "where .*3"),
        (lambda: models.convert(foreign(), models.Lean(), where="nothing*"), r"'nothing\*'"),
        (lambda: models.convert(foreign(), models.Lean(), where="norm"), "'norm'"),
        (lambda: models.convert(foreign(), models.Lean(), where="point"), "Lean cannot replace point .*3x3"),
        (lambda: models.convert(foreign(), models.UnevenGroups((1, 2)), where="point"), r"\(1, 2\) .* 16 channels"),
        (lambda: models.convert(foreign(), models.DRConv(generator="grouped"), where="wider"), r"\(3, 3\)"),
        (lambda: models.convert(foreign(), models.DRConv(), where="grouped"), "groups=1"),
        (lambda: models.convert(foreign(), models.CondConv(), where=lambda layer: layer.name == "norm"), "norm"),
        (lambda: models.convert(keras.Sequential([keras.layers.Conv2D(4, 3)], name="new"), models.Lean()), "new "),
        (
            lambda: models.convert(
                keras.Sequential([keras.Input((8, 8, 3)), _Subclassed(name="inner")]), models.CondConv()
            ),
            "inner",
        ),
    ],
)
def test_invalid_conversions(make, value):
    with pytest.raises(ModelError, match=value) as error:
        make()
    assert len(str(error.value).splitlines()) == 1


class _Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = keras.layers.Conv2D(4, 3)

    def call(self, inputs):
        return self.conv(inputs)


@pytest.mark.graphs
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: models.CondConv(stem="yes"), "stem .*True or False.*'yes'"),
        (lambda: models.CondConv(classifier=1), "classifier .*1"),
        (lambda: models.CondConv(expert_dropout="a"), "expert_dropout .*'a'"),
        (lambda: models.CondConv(expert_dropout=1.0), r"expert_dropout .*1\.0"),
        (lambda: models.CondConv(temperature=None), "temperature .*None"),
        (lambda: models.CondConv(routing="softmax", temperature=float("nan")), "temperature .*nan"),
        (lambda: models.CondConv(temperature=30.0), "temperature=30.0 requires routing='softmax'"),
        (lambda: models.CondConv(routing="softmax", annealing_steps=10), "annealing_steps=10 has no effect"),
        (lambda: models.CondConv(routing=["softmax"]), "routing .*one_layer"),
        (lambda: models.CondConv(scope="stage"), "'stage'.*block, layer"),
        (lambda: models.Lean(adjoint_step=0), "adjoint_step .*0"),
        (lambda: models.UnevenGroups(ratio="13"), "ratio .*'13'"),
        (lambda: models.UnevenGroups(even_from=0), "even_from .*0"),
        (lambda: models.create_model("resnet18", operator={"name": ["CondConv"]}), "unknown operator"),
        (lambda: models.create_model("resnet18", operator={"name": "CondConv", 3: 4}), "no setting '3'"),
        (lambda: models.create_model("resnet18", operator=models.CondConv), "operator must be"),
        (lambda: models.convert(foreign(), models.CondConv(scope="layer")), "scope='layer' .*no effect"),
        (lambda: models.convert(foreign(), models.Static()), "Static"),
        (lambda: models.convert(None, models.CondConv()), "None"),
        (lambda: models.CondConv(routing="softmax", temperature=0.5, annealing_steps=9), "annealing_steps=9"),
        (lambda: models.DRConv(first_block=None), r"first_block=None .*Static\(\)"),
        (lambda: models.DRConv(regions=1, mask_per="layer"), "mask_per='layer' has no effect"),
        (lambda: models.UnevenGroups(ratio=(True, 3)), "ratio .*True"),
        (lambda: models.UnevenGroups(ratio=4), "ratio .*4"),
        (lambda: models.UnevenGroups(even_by="outputs"), "even_by='outputs' has no effect"),
        (lambda: models.UnevenGroups(ratio=(1, 1), order="reversed"), "order='reversed' has no effect"),
        (lambda: models.create_model(None), "None"),
        (lambda: models.create_model("resnet18", 5, 32), "input_shape=32"),
        (lambda: models.create_model("resnet18", weights=5), "weights=5"),
    ],
)
def test_invalid_operators(make, message):
    with pytest.raises(ModelError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_operators_of_numpy_and_json_values_are_those_of_python():
    operator = models.UnevenGroups(ratio=[1, 3], even_from=np.int64(16))
    assert operator == models.UnevenGroups(ratio=(1, 3), even_from=16)
    assert hash(operator) == hash(models.UnevenGroups(ratio=(1, 3), even_from=16))
    fields = json.loads(json.dumps(models.operators.to_fields(operator)))
    assert models.operators.from_fields(**fields) == operator


def test_networks_of_the_zoo_that_have_an_operator():
    """Their conditional layers stay; the ordinary ones are replaced."""
    model = models.create_model("mobilenet_v1_condconv_x0_25", 3, (32, 32, 3))
    converted = models.convert(model, models.CondConv(num_experts=2))
    kept = [layer for layer in converted.layers if getattr(layer, "num_experts", None) == 8]
    assert len(kept) == len([layer for layer in model.layers if hasattr(layer, "num_experts")])
    assert isinstance(converted.get_layer("block1_pointwise_conv"), CondConv2D)
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(converted(x), model(x), rtol=1e-4, atol=1e-4)
    regional = models.create_model("mobilenet_v1_drconv_x0_25", 3, (32, 32, 3))
    with pytest.raises(ModelError, match="no layer that DRConv"):
        models.convert(regional, models.DRConv())
