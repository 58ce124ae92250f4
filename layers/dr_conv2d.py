"""Region-aware 2D convolution."""

import math
from typing import Any

import keras
import numpy as np
from keras import initializers, ops

from convzoo.layers import mixing, per_expert, region_implementations, resampling, window
from convzoo.layers.checks import positive
from convzoo.layers.custom_kernel_conv2d import CustomKernelConv2D
from convzoo.layers.guided_mask import GuidedMask
from convzoo.layers.target import get_target
from convzoo.layers.types import Activation, Initializer, Pair, Shape, Tensor

_NARROW = 32  # channels up to which the TPU compiler estimates "bank_outputs" to be faster than "bank_loop"


@keras.saving.register_keras_serializable(package="convzoo")
class DRConv2D(CustomKernelConv2D):
    """2D convolution with one kernel for each region of each image, generated from the image.

    DRConv (arXiv 2003.12243). The outputs are computed in three steps; kernel_size is (kh, kw):

    1. The mask. `region_mask` is 1 at the region of each position and 0 elsewhere; `GuidedMask` learns it. It is
       resized to the output's height and width by nearest neighbors.
    2. The kernels W [batch, regions, kh, kw, channels, filters], by `generator`:

       "shared_bank", the authors' code. All regions mix the same `bank_size` base kernels:

           a = 2 / bank_size * sigmoid(mean(inputs) @ routing_kernel + routing_bias)    [batch, regions, bank_size]
           W[b, r] = sum_i a[b, r, i] * kernel[i]

       with the mean over height and width, routing_kernel [channels, regions * bank_size] and kernel
       [bank_size, kh, kw, channels, filters].

       "grouped", the paper's description. Every region has its own weights, shared by the cells (i, j) of the window:

           s = sigmoid(pool(inputs) @ routing_kernel + routing_bias)             [batch, kh, kw, regions, bank_size]
           W[b, r, i, j] = sum_q s[b, i, j, r, q] * kernel[r * bank_size + q] + offset[r]

       with adaptive average pooling to [batch, kh, kw, channels], kernel [regions * bank_size, channels, filters] and
       offset [regions, channels, filters].
    3. The convolution, at output position p with the kernel of its region. The patch may reach into other regions:

           outputs[b, p] = activation(sum_r region_mask[b, p, r] * (W[b, r] * patch(inputs[b], p)) + bias)

    At initialization all regions of a shared bank have almost the same kernel, the mean of the bank; the regions of a
    grouped generator have independent kernels. `region_implementations` derives how the outputs are computed without
    one convolution per region.

    Call arguments:
        inputs: [batch, height, width, channels], or [batch, channels, height, width] for "channels_first". The layer
            computes in channels-last and transposes the other format.
        region_mask: [batch, any height, any width, regions], or [batch, regions, ...] for "channels_first". None: the
            layer has its own `GuidedMask` of the inputs, `guided_mask`. A soft mask mixes the outputs of the regions.
            The resize compares sizes only, as in the authors' code: with padding "valid" a position gets the region of
            a pixel beside the center of its patch.

    Returns:
        [batch, output height, output width, filters], or [batch, filters, output height, output width].

    Args:
        filters: Number of output channels.
        kernel_size: A positive integer or a pair of them.
        regions: Number of regions (m in the paper), at least 1. One region means one generated kernel per image.
        bank_size: Number of base kernels of a shared bank, or of units per region of a grouped generator.
        generator: "shared_bank" or "grouped".
        strides, padding, data_format, dilation_rate, activation, use_bias: As in `keras.layers.Conv2D`. The bias
            [filters] is not generated and is the same for all regions.
        kernel_initializer: Initializer of each base kernel or unit. The default for a shared bank is "he_uniform", as
            in the authors' code; W, the mean of bank_size base kernels, starts with 1 / bank_size of its variance. The
            default for a grouped generator is a uniform initializer with which W has the variance of "he_uniform".
        routing_initializer: Initializer of routing_kernel. The default is a normal distribution with stddev 0.01.
        **kwargs: Further arguments of `keras.layers.Conv2D`, except groups, and `implementation`. kernel_regularizer
            and kernel_constraint apply to each base kernel or unit separately.
        implementation: How the outputs are computed; all implementations compute the same.
            "bank_outputs": 1x1 kernels only. Computes the outputs for all base kernels in one matrix product and sums
                them with the coefficients of each position. Time and memory for bank_size times the outputs.
            "bank_inputs": 1x1 kernels only. Multiplies the inputs by each coefficient and sums over the base kernels in
                one matrix product. Time for bank_size times the outputs, memory for bank_size times the inputs.
            "bank_loop": Computes and accumulates the outputs of one base kernel after the other. The least memory for
                1x1 kernels; training with larger ones keeps the outputs for all base kernels.
            "region_outputs": Generates the kernels W, computes the outputs for all regions and sums them with the mask.
            "region_inputs": Generates the kernels W, multiplies the inputs by each region's mask, and sums over the
                regions in one matrix product. It and "region_outputs" copy the patches under larger kernels, which
                takes kh * kw times the memory of the inputs.
            "auto": Selected by generator, shapes and `convzoo.layers.set_target`, from measurements on CPU and
                estimates for TPU; for GPU the rule of TPU applies, unmeasured.
            The bank implementations need generator "shared_bank" and several regions.

    Raises:
        ValueError: An argument is out of range, the implementation is unknown or does not apply, or region_mask
            has another number of regions.

    Example:
        >>> from convzoo.layers import DRConv2D, GuidedMask
        >>> images = keras.ops.ones((2, 8, 8, 3))
        >>> region_mask = GuidedMask(regions=4)(images)
        >>> outputs = DRConv2D(16, 3, regions=4, padding="same")(images, region_mask)
        >>> tuple(outputs.shape)
        (2, 8, 8, 16)
        >>> tuple(DRConv2D(16, 1, regions=4)(images).shape)  # with its own mask
        (2, 8, 8, 16)
    """

    GENERATORS = ("shared_bank", "grouped")
    guided_mask: GuidedMask | None = None  # the layer's own mask, if it was first called without one
    IMPLEMENTATIONS = ("bank_outputs", "bank_inputs", "bank_loop", "region_outputs", "region_inputs")

    def __init__(
        self,
        filters: int,
        kernel_size: Pair,
        regions: int = 8,
        bank_size: int = 8,
        generator: str = "shared_bank",
        strides: Pair = (1, 1),
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Pair = (1, 1),
        activation: Activation = None,
        use_bias: bool = True,
        kernel_initializer: Initializer = None,
        routing_initializer: Initializer = None,
        **kwargs: Any,
    ) -> None:
        if generator not in self.GENERATORS:
            raise ValueError(f"generator={generator!r} is unknown; use 'shared_bank' or 'grouped'")
        positive(bank_size, "bank_size")
        if kernel_initializer is None and generator == "grouped":
            # W sums bank_size units, which start at sigmoid(0) = 1/2. The fans of a unit lack the kernel size.
            cells = int(np.prod(np.broadcast_to(kernel_size, 2)))
            kernel_initializer = initializers.VarianceScaling(8.0 / (bank_size * cells), "fan_in", "uniform")
        kernel_initializer = initializers.get(kernel_initializer or "he_uniform")
        routing_initializer = initializers.get(routing_initializer or initializers.RandomNormal(stddev=0.01))
        super().__init__(
            filters,
            kernel_size,
            strides,
            padding,
            data_format,
            dilation_rate,
            activation=activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            autocast=False,  # generates the kernels in the variable dtype and casts the result
            **kwargs,
        )
        self.regions = positive(regions, "regions")
        self.bank_size = bank_size
        self.generator = generator
        self.routing_initializer = routing_initializer
        if generator == "grouped" or regions == 1:
            self.refuse_implementations(
                ("bank_outputs", "bank_inputs", "bank_loop"),
                f"it requires generator='shared_bank' and several regions, not {generator!r} and regions={regions}",
            )
        if self.kernel_size != (1, 1):
            self.refuse_implementations(
                ("bank_outputs", "bank_inputs"), f"it requires a 1x1 kernel, not kernel_size={self.kernel_size}"
            )

    def build(self, inputs_shape: Shape, region_mask_shape: Shape | None = None) -> None:
        self.set_channels(inputs_shape)
        self._check_mask(region_mask_shape)
        if region_mask_shape is None and self.regions > 1:
            guided_mask = GuidedMask(
                self.regions,
                data_format=self.data_format,
                dtype=self.dtype_policy,
                trainable=self.trainable,
                name="guided_mask",
            )
            guided_mask.build(inputs_shape)
            self.guided_mask = guided_mask
        units = self.regions * self.bank_size
        self.routing_kernel = self._add_weight("routing_kernel", (self.channels, units), self.routing_initializer)
        self.routing_bias = self._add_weight("routing_bias", (units,), "zeros")
        if self.generator == "shared_bank":
            shape = (self.bank_size, *self.kernel_size, self.channels, self.filters)
        else:
            shape = (units, self.channels, self.filters)
            self.offset = self._add_weight("offset", (self.regions, self.channels, self.filters), "zeros")
        self.kernel = self._add_weight(
            "kernel",
            shape,
            per_expert.initializer(self.kernel_initializer),
            regularizer=per_expert.regularizer(self.kernel_regularizer),
            constraint=per_expert.constraint(self.kernel_constraint),
        )
        self.add_bias(autocast=False)

    def _add_weight(self, name, shape, initializer, **kwargs):
        return self.add_weight(name=name, shape=shape, initializer=initializer, autocast=False, **kwargs)

    def _check_mask(self, shape):
        if shape is not None and (len(shape) != 4 or shape[self.channel_axis] not in (None, self.regions)):
            raise ValueError(
                f"region_mask of {self.name} has shape {tuple(shape)}; use four axes ({self.data_format}) with "
                f"{self.regions} regions"
            )

    def _own_mask(self) -> GuidedMask:
        if self.guided_mask is None:
            raise ValueError(f"{self.name} was built for a given region_mask; call it with region_mask")
        return self.guided_mask

    def choose_implementation(self, images_shape: Shape, training: bool = False) -> str:
        """Returns the implementation that the layer uses for channels-last images of this shape.

        `training` has no effect. The choices are measured on CPU and estimated by the TPU compiler; see
        docs/implementations.md.
        """
        if self.implementation != "auto":
            return self.implementation
        channels, filters = images_shape[3], self.filters
        if self.generator == "grouped" or self.regions == 1:
            return "region_inputs" if channels <= filters else "region_outputs"
        if self.kernel_size != (1, 1):
            return "bank_loop"
        if get_target() == "cpu":
            return "bank_inputs" if filters >= 2 * channels else "bank_loop"
        return "bank_outputs" if max(channels, filters) <= _NARROW else "bank_loop"  # not measured on GPU

    def call(self, inputs: Tensor, region_mask: Tensor | None = None) -> Tensor:
        self.compute_output_shape(inputs.shape)  # raises ValueError if the images are smaller than the kernel
        if region_mask is None and self.regions > 1:
            region_mask = self._own_mask()(inputs)
        images = window.to_channels_last(ops.cast(inputs, self.compute_dtype), self.data_format)
        if region_mask is not None:
            self._check_mask(region_mask.shape)
            mask = window.to_channels_last(ops.cast(region_mask, self.variable_dtype), self.data_format)
            mask = resampling.nearest(mask, window.output_sizes(ops.shape(images)[1:3], *self.geometry))
        else:
            mask = None
        implementation = self.choose_implementation(images.shape)
        if implementation in ("region_outputs", "region_inputs"):
            taps = window.taps(images, *self.geometry)
            patches = ops.concatenate(taps, axis=3) if len(taps) > 1 else taps[0]
            mask = None if mask is None else ops.cast(mask, self.compute_dtype)
            compute = getattr(region_implementations, implementation)
            outputs = compute(patches, self.generate_kernels(images), mask)
        else:
            kernel, coefficients = ops.cast(self.kernel, self.compute_dtype), self._coefficients(images, mask)
            if self.kernel_size == (1, 1):
                images, kernel = images[:, :: self.strides[0], :: self.strides[1]], ops.squeeze(kernel, (1, 2))
                outputs = region_implementations.bank_pointwise(implementation, images, kernel, coefficients)
            else:
                outputs = region_implementations.bank_loop(self.convolve, images, kernel, coefficients)
        return self.add_bias_and_activate(outputs)

    def _units(self, images):
        """Returns the generator's sigmoids [batch, *cells, regions, bank_size], in the variable dtype."""
        cells = (1, 1) if self.generator == "shared_bank" else self.kernel_size
        pooled = resampling.average_pool(ops.cast(images, self.variable_dtype), cells)
        units = ops.sigmoid(ops.matmul(pooled, self.routing_kernel) + self.routing_bias)
        return ops.reshape(units, (-1, *cells, self.regions, self.bank_size))

    def _mixing_weights(self, images):
        """Returns a, the weights [batch, regions, bank_size] of the base kernels in each region's kernel."""
        return ops.squeeze(self._units(images), (1, 2)) * (2.0 / self.bank_size)

    def _coefficients(self, images, mask):
        """Returns c = mask @ a, the weights [batch, height, width, bank_size] of the base kernels at each position."""
        batch, height, width, regions = ops.shape(mask)
        coefficients = ops.matmul(ops.reshape(mask, (batch, height * width, regions)), self._mixing_weights(images))
        return ops.reshape(coefficients, (batch, height, width, self.bank_size))

    def generate_kernels(self, images: Tensor) -> Tensor:
        """Returns W for channels-last images, [batch, regions, kh * kw * channels, filters] in the compute dtype."""
        values = math.prod(self.kernel_size) * self.channels
        if self.generator == "shared_bank":
            weights = ops.reshape(self._mixing_weights(images), (-1, self.bank_size))
            kernels = mixing.mix(weights, self.kernel, fused=True)
        else:
            units = ops.transpose(self._units(images), (3, 0, 1, 2, 4))  # [regions, batch, kh, kw, bank_size]
            units = ops.reshape(units, (self.regions, -1, self.bank_size))
            kernels = ops.matmul(units, ops.reshape(self.kernel, (self.regions, self.bank_size, -1)))
            kernels = kernels + ops.reshape(self.offset, (self.regions, 1, -1))
            kernels = ops.reshape(kernels, (self.regions, -1, values * self.filters))
            kernels = ops.transpose(kernels, (1, 0, 2))
        return ops.reshape(ops.cast(kernels, self.compute_dtype), (-1, self.regions, values, self.filters))

    def compute_output_spec(self, inputs: Tensor, region_mask: Tensor | None = None) -> keras.KerasTensor:
        if region_mask is None and self.regions > 1 and self.built:
            self._own_mask()
        return super().compute_output_spec(inputs, region_mask)

    def compute_output_shape(self, inputs_shape: Shape, region_mask_shape: Shape | None = None) -> Shape:
        self._check_mask(region_mask_shape)
        return super().compute_output_shape(inputs_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "regions": self.regions,
            "bank_size": self.bank_size,
            "generator": self.generator,
            "routing_initializer": initializers.serialize(self.routing_initializer),
        }
