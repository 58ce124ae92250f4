"""GuidedMask and DRConv2D against the equations of the paper, forward and backward, in NumPy and float64."""

import keras
import numpy as np
import pytest

from convzoo.layers import DRConv2D, GuidedMask

BATCH, HEIGHT, WIDTH, CHANNELS, FILTERS = 3, 6, 8, 5, 4

WINDOWS = [
    {"kernel_size": 1},
    {"kernel_size": 1, "strides": 2, "padding": "same"},
    {"kernel_size": 3},
    {"kernel_size": 3, "padding": "same", "strides": 2},
    {"kernel_size": 3, "padding": "same", "dilation_rate": 2},
    # 4x7 positions of a 6x8 mask: no whole step takes one to the other.
    {"kernel_size": (3, 2), "strides": (1, 1), "data_format": "channels_first"},
]
# By the number of the window; others have the released one, 1x1 without a bias.
MASKS = {2: {"kernel_size": 3, "padding": "same"}, 3: {"kernel_size": 3, "strides": 2}}
GENERATORS = [
    {"regions": 3, "bank_size": 4},
    {"regions": 4, "bank_size": 2, "use_bias": False},
    {"regions": 1, "bank_size": 3},
    {"regions": 3, "bank_size": 2, "generator": "grouped"},
    {"regions": 1, "bank_size": 2, "generator": "grouped"},
]


class Window:
    """The pixels under each position of a window as rows, and the way back."""

    def __init__(self, layer, height, width):
        (kh, kw), (sh, sw), (dh, dw) = layer.kernel_size, layer.strides, layer.dilation_rate
        reach = ((kh - 1) * dh + 1, (kw - 1) * dw + 1)
        self.index, self.sizes = [], []
        starts = []
        for size, r, s in zip((height, width), reach, (sh, sw), strict=True):
            count = -(-size // s) if layer.padding == "same" else -(-(size - r + 1) // s)
            before = max((count - 1) * s + r - size, 0) // 2 if layer.padding == "same" else 0
            starts.append(-before)
            self.sizes.append(count)
        for y in range(self.sizes[0]):
            for x in range(self.sizes[1]):
                for i in range(kh):
                    for j in range(kw):
                        at = (starts[0] + y * sh + i * dh, starts[1] + x * sw + j * dw)
                        self.index.append(at if 0 <= at[0] < height and 0 <= at[1] < width else None)
        self.count = self.sizes[0] * self.sizes[1]

    def rows(self, image):
        """[positions, kh * kw * channels] of one image [height, width, channels]."""
        pixels = [np.zeros(image.shape[2]) if at is None else image[at] for at in self.index]
        return np.stack(pixels).reshape(self.count, -1)

    def back(self, rows, shape):
        """The adjoint of `rows`."""
        image = np.zeros(shape)
        for at, pixel in zip(self.index, rows.reshape(len(self.index), -1), strict=True):
            if at is not None:
                image[at] += pixel
        return image


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def cells(size, count):
    return [slice(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def reference(layer, mask, image, cotangent):
    """The layers' output for one image and the gradients of its sum weighted by `cotangent`, by name.

    y_p = W_{M(p)} x_p; dF_hat_pj = g_p . Y_pj over all regions j; dF = the softmax's Jacobian times it; dW_j = sum of
    g_p x_p over the positions of region j; dx = W_{M(p)}^T g_p and what the generator and the mask add.
    """
    get = {w.path.split("/")[-1]: np.asarray(w).astype("float64") for w in layer.weights}
    m, q, filters = layer.regions, layer.bank_size, layer.filters
    height, width, channels = image.shape
    shared = layer.generator == "shared_bank"
    window = Window(layer, height, width)
    x = window.rows(image)
    # The generator.
    kh, kw = (1, 1) if shared else layer.kernel_size
    places = [(r, c) for r in cells(height, kh) for c in cells(width, kw)]
    pooled = np.stack([image[place].mean(axis=(0, 1)) for place in places])
    s = sigmoid(pooled @ get["routing_kernel"] + get["routing_bias"]).reshape(len(places), m, q)
    if shared:
        bank = get["kernel"].reshape(q, -1)
        kernels = (2 / q * s[0] @ bank).reshape(m, -1, filters)
    else:
        own = get["kernel"].reshape(m, q, channels, filters)
        kernels = np.einsum("lmq,mqcf->mlcf", s, own) + get["offset"][:, None]
        kernels = kernels.reshape(m, -1, filters)
    # The mask, at the size of its own and at that of the output.
    if mask is None:
        hard = soft = np.ones((height, width, 1))
    else:
        (mask_kernel,) = (np.asarray(w).astype("float64") for w in mask.weights)
        mask_window, mask_rows = Window(mask, height, width), mask_kernel.reshape(-1, m)
        mask_x = mask_window.rows(image)
        scores = (mask_x @ mask_rows).reshape(*mask_window.sizes, m)
        soft = np.exp(scores - scores.max(-1, keepdims=True))
        soft /= soft.sum(-1, keepdims=True)
        hard = np.eye(m)[scores.argmax(-1)]
    mask_sizes = hard.shape[:2]
    taken = [np.arange(count) * size // count for size, count in zip(mask_sizes, window.sizes, strict=True)]
    near = np.ix_(*taken)
    chosen = hard[near].reshape(-1, m).argmax(-1)
    of_all = np.einsum("pk,mkf->pmf", x, kernels)
    y = of_all[np.arange(len(x)), chosen]
    if layer.use_bias:
        y = y + get["bias"]
    # Backward.
    g = cotangent.reshape(-1, filters)
    grads = {}
    if layer.use_bias:
        grads["bias"] = g.sum(0)
    d_x = np.stack([kernels[r] @ row for r, row in zip(chosen, g, strict=True)])
    d_image = window.back(d_x, image.shape)
    if mask is not None:
        d_hat = np.zeros((*mask_sizes, m))
        np.add.at(d_hat, near, np.einsum("pf,pmf->pm", g, of_all).reshape(*window.sizes, m))
        d_scores = soft * (d_hat - (soft * d_hat).sum(-1, keepdims=True))
        d_scores = d_scores.reshape(-1, m)
        grads["mask"] = (mask_x.T @ d_scores).reshape(mask_kernel.shape)
        d_image += mask_window.back(d_scores @ mask_rows.T, image.shape)
    d_kernels = np.stack([x[chosen == r].T @ g[chosen == r] for r in range(m)])
    if shared:
        grads["kernel"] = (2 / q * s[0].T @ d_kernels.reshape(m, -1)).reshape(get["kernel"].shape)
        d_s = 2 / q * (d_kernels.reshape(m, -1) @ bank.T)[None]
    else:
        d_kernels = d_kernels.reshape(m, len(places), channels, filters)
        grads["kernel"] = np.einsum("lmq,mlcf->mqcf", s, d_kernels).reshape(get["kernel"].shape)
        grads["offset"] = d_kernels.sum(1)
        d_s = np.einsum("mlcf,mqcf->lmq", d_kernels, own)
    d_r = (d_s * s * (1 - s)).reshape(len(places), m * q)
    grads["routing_kernel"], grads["routing_bias"] = pooled.T @ d_r, d_r.sum(0)
    for place, row in zip(places, d_r @ get["routing_kernel"].T, strict=True):
        d_image[place] += row / image[place][..., 0].size
    grads["inputs"] = d_image
    return y.reshape(*window.sizes, filters), grads


def cases():
    for number, window in enumerate(WINDOWS):
        for generator in GENERATORS if number in (0, 3) else GENERATORS[number % 2 :: 3]:
            for implementation in DRConv2D.IMPLEMENTATIONS:
                arguments = {**window, **generator, "implementation": implementation}
                mask = MASKS.get(number, {})
                try:
                    DRConv2D(FILTERS, **arguments)
                except ValueError:
                    continue
                label = ",".join(f"{k}={v}" for k, v in arguments.items()).replace(" ", "")
                yield pytest.param(arguments, mask, id=label)


def layers_of(arguments, shape, of_mask=None):
    """A layer and its mask, all weights random, and their model."""
    layer = DRConv2D(FILTERS, **arguments)
    mask = None
    if layer.regions > 1:
        mask = GuidedMask(layer.regions, data_format=layer.data_format, **(of_mask or {}))
    inputs = keras.Input(shape)
    outputs = layer(inputs) if mask is None else layer(inputs, mask(inputs))
    rng = np.random.default_rng(1)
    for weight in [*layer.weights, *(mask.weights if mask else ())]:
        weight.assign(rng.normal(size=weight.shape))
    return layer, mask, keras.Model(inputs, outputs)


@pytest.mark.parametrize(("arguments", "of_mask"), list(cases()))
def test_values_and_gradients(arguments, of_mask, model_gradients):
    first = arguments.get("data_format") == "channels_first"
    rng = np.random.default_rng(0)
    images = rng.normal(size=(BATCH, HEIGHT, WIDTH, CHANNELS))
    inputs = np.transpose(images, (0, 3, 1, 2)) if first else images
    layer, mask, model = layers_of(arguments, inputs.shape[1:], of_mask)
    shape = layer.compute_output_shape(inputs.shape)
    cotangent = rng.normal(size=shape)
    outputs, grads = model_gradients(model, inputs.astype("float32"), cotangent.astype("float32"))
    assert outputs.shape == shape
    if first:
        outputs, cotangent = (np.transpose(t, (0, 2, 3, 1)) for t in (outputs, cotangent))
        grads["inputs"] = np.transpose(grads["inputs"], (0, 2, 3, 1))
    expected = [reference(layer, mask, image, g) for image, g in zip(images, cotangent, strict=True)]
    np.testing.assert_allclose(outputs, [y for y, _ in expected], atol=2e-5, rtol=1e-5)
    np.testing.assert_allclose(grads["inputs"], [of["inputs"] for _, of in expected], atol=1e-4, rtol=1e-5)
    if mask is not None:
        grads["mask"] = grads.pop(mask.weights[0].path)
    names = {weight.path: weight.path.split("/")[-1] for weight in layer.weights}
    grads = {names.get(name, name): grad for name, grad in grads.items()}
    assert set(grads) == set(expected[0][1])
    for name in set(grads) - {"inputs"}:
        wanted = sum(of[name] for _, of in expected)
        np.testing.assert_allclose(grads[name], wanted, atol=1e-3, rtol=1e-4, err_msg=name)


def test_one_region_and_a_bank_of_one_is_a_convolution_of_keras():
    layer, _, model = layers_of({"kernel_size": 3, "regions": 1, "bank_size": 1}, (HEIGHT, WIDTH, CHANNELS))
    layer.routing_kernel.assign(np.zeros(layer.routing_kernel.shape))
    layer.routing_bias.assign(np.zeros(layer.routing_bias.shape))
    plain = keras.layers.Conv2D(FILTERS, 3)
    plain.build((None, HEIGHT, WIDTH, CHANNELS))
    plain.set_weights([np.asarray(layer.kernel)[0], np.asarray(layer.bias)])
    images = np.random.default_rng(0).normal(size=(BATCH, HEIGHT, WIDTH, CHANNELS)).astype("float32")
    np.testing.assert_allclose(model(images), plain(images), atol=1e-5)


@pytest.mark.parametrize("window", WINDOWS[:4], ids=str)
@pytest.mark.parametrize("generator", [GENERATORS[0], GENERATORS[3]], ids=str)
def test_all_implementations_agree(window, generator, model_gradients):
    images = np.random.default_rng(0).normal(size=(BATCH, HEIGHT, WIDTH, CHANNELS)).astype("float32")
    first = None
    for implementation in DRConv2D.IMPLEMENTATIONS:
        try:
            layer, _, model = layers_of({**window, **generator, "implementation": implementation}, images.shape[1:])
        except ValueError:
            continue
        cotangent = np.random.default_rng(2).normal(size=layer.compute_output_shape(images.shape)).astype("float32")
        outputs, grads = model_gradients(model, images, cotangent)
        # The layers' own names are others each time, their order is one.
        found = dict(enumerate([outputs, *grads.values()]))
        first = first or found
        for name, value in found.items():
            within = 1e-5 * abs(first[name]).max()
            np.testing.assert_allclose(value, first[name], atol=within, rtol=0, err_msg=f"{implementation} {name}")


@pytest.mark.parametrize("implementation", DRConv2D.IMPLEMENTATIONS)
def test_gradients_of_mixed_precision_are_those_of_float32_but_for_rounding(implementation, model_gradients):
    images = np.random.default_rng(0).normal(size=(BATCH, HEIGHT, WIDTH, CHANNELS)).astype("float32")
    cotangent = np.random.default_rng(2).normal(size=(BATCH, HEIGHT, WIDTH, FILTERS)).astype("float32")
    arguments = {"kernel_size": 1, "regions": 3, "bank_size": 4, "implementation": implementation}
    grads = []
    for policy in ("float32", "mixed_bfloat16"):
        layer, mask, model = layers_of({**arguments, "dtype": policy}, images.shape[1:])
        model_out = keras.Model(model.inputs, keras.layers.Activation("linear", dtype="float32")(model.outputs[0]))
        _, found = model_gradients(model_out, images, cotangent)
        grads.append([found["inputs"], *(found[weight.path] for weight in [*layer.weights, *mask.weights])])
    for exact, rounded in zip(*grads, strict=True):
        assert np.linalg.norm(rounded - exact) < 0.02 * np.linalg.norm(exact)
