"""LeanConv2D: the sparse linear operator that it is, in every form, and its life as a Keras layer."""

import math

import keras
import numpy as np
import pytest

from convzoo.layers import LeanConv2D
from convzoo.layers.lean_conv2d import STENCILS

# Arguments, and the channels that go in.
CASES = {
    "depthwise": ({"filters": 8}, 8),
    "nine points": ({"filters": 8, "stencil": "9-point", "group_size": 2}, 8),
    "horizontal": ({"filters": 8, "stencil": "3-point-horizontal", "group_size": 4, "padding": "same"}, 8),
    "vertical": ({"filters": 6, "stencil": "3-point-vertical", "padding": "same"}, 6),
    "one group": ({"filters": 4, "stencil": "9-point", "group_size": None}, 6),
    "wider": ({"filters": 12, "strides": 2, "stencil": "9-point", "padding": "same"}, 6),
    "narrower": ({"filters": 4, "group_size": 2, "strides": (2, 1), "padding": "same"}, 12),
    "dilated": ({"filters": 6, "dilation_rate": 2, "padding": "same"}, 6),
    "dilated in groups": ({"filters": 8, "group_size": 4, "dilation_rate": (1, 2)}, 8),
    "channels first": ({"filters": 6, "data_format": "channels_first", "strides": 2, "padding": "same"}, 6),
    "widths without a multiple": ({"filters": 9, "padding": "same"}, 6),
    "many blocks": ({"filters": 96, "group_size": 16, "padding": "same"}, 96),
}


def images(channels, height=7, width=8):
    return np.random.default_rng(0).normal(size=(2, height, width, channels)).astype("float32")


def entries(layer):
    """Where each weight of the layer stands in its dense kernel: pairs of an index of it and one of the weight."""
    channels = layer.kernel.shape[2]
    groups = 1 if layer.group_size is None else math.gcd(channels, layer.filters) // layer.group_size
    into, out_of = channels // groups, layer.filters // groups
    for f in range(layer.filters):
        for c in range(channels):
            yield (1, 1, c, f), ("kernel", (0, 0, c, f))
        for tap, (i, j) in enumerate(STENCILS[layer.stencil]):
            for c in range(into):
                yield (i, j, f // out_of * into + c, f), ("stencil", (tap, c, f))


def dense_kernel(layer):
    weights = {"kernel": np.asarray(layer.kernel), "stencil": np.asarray(layer.stencil_kernel)}
    kernel = np.zeros((3, 3, layer.kernel.shape[2], layer.filters))
    for place, (name, index) in entries(layer):
        assert kernel[place] == 0
        kernel[place] = weights[name][index]
    return kernel


def windows(layer, size):
    """The pixels, as an index of a picture padded by three, under each position: [axis][tap, output]."""
    for n, s, d, out in zip(size, layer.strides, layer.dilation_rate, layer.compute_output_sizes(size), strict=True):
        before = 0 if layer.padding == "valid" else max((out - 1) * s + 2 * d + 1 - n, 0) // 2
        yield np.arange(3)[:, None] * d + np.arange(out) * s - before + 3


@pytest.mark.parametrize("form", LeanConv2D.FORMS)
@pytest.mark.parametrize("case", list(CASES))
def test_values_and_gradients(case, form, model_gradients):
    arguments, channels = CASES[case]
    first = arguments.get("data_format") == "channels_first"
    layer = LeanConv2D(**arguments, bias_initializer="normal", form=form)
    x = images(channels)
    inputs = keras.Input((channels, None, None) if first else (None, None, channels))
    model = keras.Model(inputs, layer(inputs))

    kernel = dense_kernel(layer)
    padded = np.pad(x.astype("float64"), ((0, 0), (3, 3), (3, 3), (0, 0)))
    rows, columns = windows(layer, x.shape[1:3])
    places = np.ix_(range(2), rows.ravel(), columns.ravel(), range(channels))
    patches = padded[places].reshape(2, *rows.shape, *columns.shape, channels)
    expected = np.einsum("biyjxc,ijcf->byxf", patches, kernel) + np.asarray(layer.bias)
    cotangent = np.random.default_rng(1).normal(size=expected.shape).astype("float32")
    given = [np.transpose(t, (0, 3, 1, 2)) if first else t for t in (x, cotangent)]
    outputs, grads = model_gradients(model, *given)
    assert outputs.shape == given[1].shape == layer.compute_output_shape(given[0].shape)
    if first:
        outputs, grads["inputs"] = (np.transpose(t, (0, 2, 3, 1)) for t in (outputs, grads["inputs"]))
    np.testing.assert_allclose(outputs, expected, atol=1e-5)

    d_patches = np.einsum("byxf,ijcf->biyjxc", cotangent, kernel)
    d_padded = np.zeros_like(padded)
    np.add.at(d_padded, places, d_patches.reshape(2, rows.size, columns.size, channels))
    np.testing.assert_allclose(grads["inputs"], d_padded[:, 3:-3, 3:-3], atol=1e-4)
    d_kernel = np.einsum("biyjxc,byxf->ijcf", patches, cotangent)
    found = {"kernel": grads[layer.kernel.path], "stencil": grads[layer.stencil_kernel.path]}
    here, there = zip(*((d_kernel[place], found[name][index]) for place, (name, index) in entries(layer)), strict=True)
    np.testing.assert_allclose(there, here, atol=1e-4)
    np.testing.assert_allclose(grads[layer.bias.path], cotangent.sum((0, 1, 2)), atol=1e-4)


@pytest.mark.parametrize("case", list(CASES))
def test_the_dense_kernel_and_its_convolution(case):
    arguments, channels = CASES[case]
    layer = LeanConv2D(**arguments)
    x = images(channels)
    x = np.transpose(x, (0, 3, 1, 2)) if layer.data_format == "channels_first" else x
    layer.build(x.shape)
    np.testing.assert_array_equal(layer.to_dense(), dense_kernel(layer).astype("float32"))
    weights = layer.kernel.shape[2] * layer.filters
    if layer.group_size and max(channels, layer.filters) % min(channels, layer.filters) == 0:
        weights += len(STENCILS[layer.stencil]) * layer.group_size * max(channels, layer.filters)
        assert layer.count_params() == weights + layer.filters
    if layer.data_format == "channels_first":
        return  # TensorFlow's CPU has no such convolution
    named = ("filters", "strides", "padding", "dilation_rate")
    plain = keras.layers.Conv2D(kernel_size=3, **{name: getattr(layer, name) for name in named})
    plain.build(x.shape)
    plain.set_weights([np.asarray(layer.to_dense()), np.zeros(layer.filters)])
    np.testing.assert_allclose(layer(x), plain(x), atol=1e-5)


@pytest.mark.parametrize("stencil", list(STENCILS))
@pytest.mark.parametrize("group_size", [1, 2, None])
def test_the_nearest_lean_operator_to_a_dense_kernel(stencil, group_size):
    layer = LeanConv2D(8, stencil, group_size)
    layer.build((None, 5, 5, 4))
    dense = np.random.default_rng(3).normal(size=(3, 3, 4, 8)).astype("float32")
    layer.fit_dense(dense)
    fitted = np.asarray(layer.to_dense())
    free = np.zeros(dense.shape, bool)
    for place, _ in entries(layer):
        free[place] = True
    # Least squares: no weight could be moved to come nearer.
    np.testing.assert_array_equal(fitted, np.where(free, dense, 0))


@pytest.mark.parametrize("form", LeanConv2D.FORMS)
@pytest.mark.parametrize(("stencil", "group_size"), [("9-point", 4), ("5-point", 1), ("3-point-vertical", None)])
def test_the_adjoint_operator(stencil, group_size, form):
    layer = LeanConv2D(8, stencil, group_size, padding="same", bias_initializer="ones", activation="relu", form=form)
    x, y = images(8), np.random.default_rng(4).normal(size=(2, 7, 8, 8)).astype("float32")
    adjoint = np.asarray(layer(y, transposed=True))
    linear = LeanConv2D(8, stencil, group_size, padding="same", use_bias=False)
    linear.build(x.shape)
    linear.set_weights(layer.get_weights()[:2])
    # <K x, y> = <x, K^T y>, image by image and channel by channel of x.
    for image in range(2):
        for channel in range(8):
            part = np.zeros_like(x)
            part[image, ..., channel] = x[image, ..., channel]
            np.testing.assert_allclose(np.sum(linear(part) * y), np.sum(part * adjoint), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("other", [{"strides": 2}, {"padding": "valid"}, {"filters": 16}])
def test_layers_without_an_adjoint(other):
    layer = LeanConv2D(**{"filters": 8, "padding": "same", **other})
    layer.build(images(8).shape)
    with pytest.raises(ValueError, match="has no adjoint"):
        layer(images(8), transposed=True)
    with pytest.raises(ValueError, match="has no adjoint"):
        layer(keras.Input((7, 8, 8)), transposed=True)


def test_one_group_and_nine_points_are_the_full_convolution():
    layer, plain = LeanConv2D(6, "9-point", None, form="auto"), keras.layers.Conv2D(6, 3)
    expected = plain(images(4))
    layer.build(images(4).shape)
    layer.fit_dense(plain.kernel)
    layer.bias.assign(plain.bias)
    assert layer.choose_form(images(4).shape) == "dense"
    np.testing.assert_allclose(layer(images(4)), expected, atol=1e-5)


def test_unknown_sizes_and_a_saved_model_file(tmp_path):
    inputs = keras.Input((None, None, 8))
    x = LeanConv2D(16, "9-point", 4, 2, "same", activation="relu", kernel_regularizer="l2")(inputs)
    x = LeanConv2D(16, padding="same", kernel_constraint="non_neg")(x)
    model = keras.Model(inputs, x)
    assert model.output_shape == (None, None, None, 16)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for size in (5, 6):
        x = images(8, size, size)
        np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6)


def test_config_round_trip():
    layer = LeanConv2D(
        6,
        "3-point-vertical",
        group_size=3,
        strides=(1, 2),
        padding="same",
        data_format="channels_first",
        activation="swish",
        use_bias=False,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.1, seed=4),
        kernel_regularizer="l2",
        activity_regularizer="l1",
        bias_constraint="non_neg",
        form="taps",
        name="lean",
    )
    config = layer.get_config()
    assert LeanConv2D.from_config(config).get_config() == config
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer)).get_config() == config
    assert not set(layer.__init__.__code__.co_varnames[1 : layer.__init__.__code__.co_argcount]) - set(config)


@pytest.mark.parametrize("form", LeanConv2D.FORMS)
def test_mixed_precision(form):
    arguments = {"filters": 64, "group_size": 8, "stencil": "9-point", "form": form}
    full = LeanConv2D(**arguments)
    expected = full(images(64))
    layer = LeanConv2D(**arguments, dtype="mixed_bfloat16")
    layer.build(images(64).shape)
    layer.set_weights(full.get_weights())
    outputs = layer(images(64))
    assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"
    assert all(keras.backend.standardize_dtype(w.dtype) == "float32" for w in layer.weights)
    np.testing.assert_allclose(keras.ops.cast(outputs, "float32"), expected, atol=0.1, rtol=0.03)


@pytest.mark.parametrize("seed", [None, 3])
def test_stencil_and_center_are_parts_of_one_draw(seed):
    layer = LeanConv2D(64, "9-point", 8, kernel_initializer=keras.initializers.HeNormal(seed=seed))
    layer.build((None, 5, 5, 64))
    stencil, center = np.asarray(layer.stencil_kernel), np.asarray(layer.kernel)
    for part in (stencil, center):
        np.testing.assert_allclose(part.std(), np.sqrt(2 / (64 + 8 * 8)), rtol=0.05)
    assert abs(np.corrcoef(stencil.reshape(64, 64).ravel(), center.ravel())[0, 1]) < 0.05


def test_auto_takes_no_grouped_convolution_and_never_one_block(target):
    def chosen(channels, group_size):
        layer = LeanConv2D(channels, group_size=group_size)
        layer.build((None, 9, 9, channels))
        return layer.choose_form((None, 9, 9, channels))

    for name, wide in (("cpu", 32), ("gpu", 128), ("tpu", 128)):
        target(name)
        narrow = "dense" if name == "tpu" else "split"
        assert [chosen(channels, 1) for channels in (8, wide, 2 * wide)] == [narrow, narrow, "split"]
        assert [chosen(channels, 8) for channels in (8, wide, 2 * wide)] == ["dense", "dense", "blocks"]
        assert chosen(2 * wide, None) == "dense"


def test_auto_is_the_form_it_names():
    for group_size in (1, 8, None):
        auto = LeanConv2D(64, group_size=group_size)
        expected = auto(images(64))
        layer = LeanConv2D(64, group_size=group_size, form={1: "split", 8: "blocks", None: "dense"}[group_size])
        layer.build(images(64).shape)
        layer.set_weights(auto.get_weights())
        np.testing.assert_array_equal(layer(images(64)), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LeanConv2D(0), "filters 0"),
        (lambda: LeanConv2D(8, "4-point"), "stencil '4-point' is not one of '9-point', '5-point'"),
        (lambda: LeanConv2D(8, group_size=0), "group_size 0 is not a positive integer"),
        (lambda: LeanConv2D(8, form="map"), "form 'map' is not known"),
        (lambda: LeanConv2D(8, padding="full"), "padding 'full'"),
        (lambda: LeanConv2D(8, strides=2, dilation_rate=2), "one of them must be 1"),
        (
            lambda: LeanConv2D(8, group_size=3)(images(8)),
            "groups of 3 between 8 channels and 8 filters: group_size must",
        ),
        (lambda: LeanConv2D(12, group_size=8)(images(8)), "groups of 8 between 8 channels and 12 filters"),
        (lambda: LeanConv2D(8)(images(8, 2, 2)), "too small for kernel_size"),
        (lambda: LeanConv2D(8)(images(8)[0]), "expected four axes"),
        (lambda: LeanConv2D(8)(keras.Input((4, 4, None))), "known number of channels"),
        (lambda: LeanConv2D(8).fit_dense(np.zeros((3, 3, 4, 8))), "is not built"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert len(str(error.value).splitlines()) == 1 or "Exception encountered" in str(error.value)


def test_a_dense_kernel_of_another_shape():
    layer = LeanConv2D(8)
    layer.build((None, 5, 5, 8))
    with pytest.raises(ValueError, match=r"has shape \(3, 3, 4, 8\), expected \(3, 3, 8, 8\)"):
        layer.fit_dense(np.zeros((3, 3, 4, 8)))
