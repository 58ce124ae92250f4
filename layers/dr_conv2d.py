"""Region-aware convolution: a kernel for every region of every image."""

import functools
import math

import keras
from keras import KerasTensor, activations, constraints, initializers, ops, regularizers

from convzoo.layers import mixing, per_expert, region_forms, resampling, window
from convzoo.layers.checks import positive
from convzoo.layers.forms import Forms
from convzoo.layers.image_window import ImageWindow
from convzoo.layers.target import get_target

_NARROW = 32  # channels, up to which a TPU computes all base kernels at once


@keras.saving.register_keras_serializable(package="convzoo")
class DRConv2D(ImageWindow, Forms, keras.layers.Layer):
    """Position p of an image is convolved with the kernel of its region: W_r * x around p, r the region of p.

    DRConv (arXiv 2003.12243). The kernels W_0 .. W_{m-1} are generated for every image from the image
    itself; `GuidedMask` says which region a position belongs to. The window of a position may reach into other regions.

    Of the generator there are two accounts, and they are not the same layer:

    - "shared_bank", the authors' released code: W_r = sum_i a[r, i] B_i over a bank of base kernels that all regions
      share; a = 2 sigmoid(global average . routing_kernel + routing_bias) / bank_size.
    - "grouped", the paper's description: the image pooled to one cell for each position of the window, a 1x1
      convolution to `bank_size` units a region and a sigmoid, and a 1x1 convolution in groups, one a region, from its
      units to the weights of its kernel. Each region has its own.

    At the start all regions of a bank have nearly the same kernel, the mean of the bank; with a grouped generator each
    has one of its own.

    Call arguments:
        inputs: [batch, height, width, channels], or [batch, channels, height, width] for "channels_first".
        region_mask: [batch, any height, any width, regions] of `GuidedMask`, or with the regions first; a soft mask
            mixes the regions' outputs. As released, it is resized to the output by nearest neighbours and by the sizes
            alone: with padding "valid" a position's region is that of a pixel beside its window's centre. May be left
            out for one region.

    Returns:
        [batch, output height, output width, filters], or with the filters first.

    Args:
        filters: number of output channels.
        kernel_size, strides, dilation_rate: a positive integer or a pair of them; strides or dilation_rate must be 1.
        regions: number of regions (the paper's m), at least 1. One region is one kernel an image.
        bank_size: "shared_bank": number of base kernels; "grouped": number of units of each region.
        generator: "shared_bank" or "grouped".
        padding: "valid" or "same".
        data_format: "channels_last" or "channels_first"; Keras's own setting by default. The second is transposed to
            the first inside.
        activation, use_bias: as in `keras.layers.Conv2D`; the bias is not generated and serves all regions.
        kernel_initializer, kernel_regularizer, kernel_constraint: of each base kernel [kh, kw, channels, filters] of a
            bank; of each unit's weights [channels, filters] of a grouped generator. By default He's uniform one for a
            bank, as released; for a grouped generator the uniform one that makes the regions' kernels start like that.
        routing_initializer: of the coefficients' kernel, [channels, regions * bank_size].
        bias_initializer, bias_regularizer, bias_constraint: of the bias.
        activity_regularizer: of the outputs.
        form: how it is computed; all forms agree.
            "bank_outputs": the outputs of all base kernels in one convolution, summed with each position's
                coefficients. bank_size times the arithmetic and the outputs; no kernel of an image is made.
            "bank_inputs": 1 x 1 kernels only: inputs scaled by each coefficient, one convolution. bank_size times the
                arithmetic and the inputs.
            "bank_loop": one base kernel after the other, added up as they come: least memory. For 1 x 1 kernels no
                form of a bank keeps bank_size times the outputs or inputs for the backward pass.
            "region_outputs": the kernels of an image, its outputs for all regions, masked and summed.
            "region_inputs": the kernels of an image, its inputs masked for each region. As both take patches of larger
                kernels, kh * kw times the memory of the inputs.
            "auto": by the generator, the shapes, and `convzoo.layers.set_target`.
            A bank's forms are for generator "shared_bank".

    Raises:
        ValueError: sizes below 1, strides and dilation together, an unknown generator, an unknown form or one that
            does not apply, a mask of another width or none for several regions.
    """

    BANK_FORMS = ("bank_outputs", "bank_inputs", "bank_loop")
    FORMS = (*BANK_FORMS, "region_outputs", "region_inputs")
    GENERATORS = ("shared_bank", "grouped")

    def __init__(
        self,
        filters,
        kernel_size,
        regions=8,
        bank_size=8,
        generator="shared_bank",
        strides=(1, 1),
        padding="valid",
        data_format=None,
        dilation_rate=(1, 1),
        activation=None,
        use_bias=True,
        kernel_initializer=None,
        routing_initializer=None,
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        form="auto",
        **kwargs,
    ):
        # No casts by Keras: kernels are generated in the weights' own precision, and only the result is cast.
        super().__init__(
            kernel_size,
            strides,
            padding,
            data_format,
            dilation_rate,
            form=form,
            activity_regularizer=activity_regularizer,
            autocast=False,
            **kwargs,
        )
        self.filters = positive(filters, "filters")
        self.regions = positive(regions, "regions")
        self.bank_size = positive(bank_size, "bank_size")
        self.generator = generator
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer or self._default_initializer())
        self.routing_initializer = initializers.get(routing_initializer or initializers.RandomNormal(stddev=0.01))
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        if generator not in self.GENERATORS:
            raise ValueError(f"generator {generator!r} is neither 'shared_bank' nor 'grouped'")
        if generator == "grouped":
            self.refuse_forms(self.BANK_FORMS, "generator 'grouped' has no bank")
        if self.kernel_size != (1, 1):
            self.refuse_form("bank_inputs", f"it is for 1 x 1 kernels, kernel_size is {self.kernel_size}")

    def _default_initializer(self):
        if self.generator == "shared_bank":
            return "he_uniform"
        # A kernel is a sum over bank_size units that begin at one half; its window is not in the units' shape.
        scale = 8.0 / (self.bank_size * math.prod(self.kernel_size))
        return initializers.VarianceScaling(scale, "fan_in", "uniform")

    def build(self, inputs_shape, region_mask_shape=None):
        self.check_inputs(inputs_shape)
        self.check_mask(region_mask_shape)
        self.channels = inputs_shape[self.channel_axis]
        self.compute_output_shape(inputs_shape)  # raises where no window fits
        units = self.regions * self.bank_size
        self.routing_kernel = self._weight("routing_kernel", (self.channels, units), self.routing_initializer)
        self.routing_bias = self._weight("routing_bias", (units,), "zeros")
        if self.generator == "shared_bank":
            shape = (self.bank_size, *self.kernel_size, self.channels, self.filters)
        else:
            shape = (units, self.channels, self.filters)
            self.offset = self._weight("offset", (self.regions, *shape[1:]), "zeros")
        self.kernel = self._weight(
            "kernel",
            shape,
            per_expert.initializer(self.kernel_initializer),
            regularizer=per_expert.regularizer(self.kernel_regularizer),
            constraint=per_expert.constraint(self.kernel_constraint),
        )
        self.bias = None
        if self.use_bias:
            self.bias = self._weight(
                "bias",
                (self.filters,),
                self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def _weight(self, name, shape, initializer, **arguments):
        return self.add_weight(name=name, shape=shape, initializer=initializer, autocast=False, **arguments)

    def check_mask(self, shape):
        """Raises if the layer cannot take a mask of `shape`; None is a mask that is not known yet."""
        if shape is None:
            return
        if len(shape) != 4 or shape[self.channel_axis] not in (None, self.regions):
            raise ValueError(
                f"region_mask of {self.name} has shape {tuple(shape)}, expected four axes ({self.data_format}) with "
                f"{self.regions} regions"
            )

    def choose_form(self, images_shape, training=False):
        """The form that "auto" stands for, for channels-last inputs of this shape; the same in and out of training."""
        if self.form != "auto":
            return self.form
        channels, filters = images_shape[3], self.filters
        if self.generator == "grouped" or self.regions == 1:
            return "region_inputs" if channels <= filters else "region_outputs"
        if get_target() == "cpu":
            # By scripts/benchmark_layers.py on two CPU cores (batch 32, 8 regions, 8 base kernels, forward and
            # backward), multiples of the plain layer: 14x14 64->384 "bank_inputs" 5.3, "bank_loop" 5.3, "bank_outputs"
            # 5.8; 28x28 32->192 4.3, 5.3 and 5.1; 14x14 384->64 9.3, 7.3 and 9.2; with as many filters as channels
            # "bank_loop" is the least of the three or within a tenth of it. Forward, 28x28 32->192: 4.9, 8.2 and 8.8.
            return "bank_inputs" if self.kernel_size == (1, 1) and filters >= 2 * channels else "bank_loop"
        # By the TPU compiler's estimates (scripts/tpu_forms.py, v5e, batch 128) two layers with a depthwise one between
        # take, at once and in a loop, in microseconds by cost: 56x56x24 5108 and 6140, 28x28x24 1191 and 1352, 28x28x58
        # 4135 and 3796, 14x14x48 767 and 633, 7x7x96 362 and 320. Alone, wide layers are cheaper at once (14x14x116
        # 628 and 716), but not by schedule. Of a 3x3 at 14x14x64 the loop takes half. Taken over for a GPU, where
        # nothing was measured.
        is_narrow = self.kernel_size == (1, 1) and max(channels, filters) <= _NARROW
        return "bank_outputs" if is_narrow else "bank_loop"

    def call(self, inputs, region_mask=None):
        self.check_inputs(inputs.shape)
        self.compute_output_shape(inputs.shape)
        self._check_presence(region_mask)
        images = self.to_last(ops.cast(inputs, self.compute_dtype))
        if region_mask is not None:
            self.check_mask(region_mask.shape)
            region_mask = self.to_last(ops.cast(region_mask, self.variable_dtype))
        outputs = self._convolve(images, region_mask)
        if self.use_bias:
            outputs = outputs + ops.cast(self.bias, self.compute_dtype)
        outputs = self.from_last(outputs)
        return outputs if self.activation is None else self.activation(outputs)

    def _check_presence(self, region_mask):
        if region_mask is None and self.regions > 1:
            raise ValueError(f"{self.name} has {self.regions} regions and got no region_mask: give it a GuidedMask's")

    def _convolve(self, images, mask):
        """The convolution of channels-last images, without the bias."""
        if mask is not None:
            mask = resampling.nearest(mask, self.compute_output_sizes(ops.shape(images)[1:3]))
        form = self.choose_form(images.shape)
        if form not in self.BANK_FORMS:
            taps = window.taps(images, *self.geometry)
            patches = ops.concatenate(taps, axis=3) if len(taps) > 1 else taps[0]
            mask = None if mask is None else ops.cast(mask, self.compute_dtype)
            return getattr(region_forms, form)(patches, self.generate_kernels(images), mask)
        convolve, kernel = self._conv, ops.cast(self.kernel, self.compute_dtype)
        coefficients = self._coefficients(images, mask)
        if self.kernel_size == (1, 1):
            images, convolve = images[:, :: self.strides[0], :: self.strides[1]], _pointwise
        if form == "bank_inputs":
            compute = region_forms.bank_inputs
        elif form == "bank_loop":
            compute = functools.partial(region_forms.bank_loop, convolve)
        else:
            compute = functools.partial(region_forms.bank_outputs, convolve)
        if self.kernel_size == (1, 1) and mask is not None:
            at_once = {"v_at_once": form != "bank_loop", "x_at_once": form == "bank_inputs"}
            return region_forms.with_own_gradient(compute, images, kernel, coefficients, **at_once)
        return compute(images, kernel, coefficients)

    def _conv(self, images, kernel):
        return ops.conv(
            images, kernel, self.strides, self.padding, data_format="channels_last", dilation_rate=self.dilation_rate
        )

    def _units(self, images):
        """The generator's sigmoids [batch, *cells, regions, bank_size], in the weights' dtype."""
        cells = (1, 1) if self.generator == "shared_bank" else self.kernel_size
        pooled = resampling.average_pool(ops.cast(images, self.variable_dtype), cells)
        units = ops.sigmoid(ops.matmul(pooled, self.routing_kernel) + self.routing_bias)
        return ops.reshape(units, (-1, *cells, self.regions, self.bank_size))

    def _by_region(self, images):
        """Coefficients [batch, regions, bank_size] of the bank."""
        return ops.squeeze(self._units(images), (1, 2)) * (2.0 / self.bank_size)

    def _coefficients(self, images, mask):
        """Coefficients [batch, height, width, bank_size] of each position; height and width are 1 without a mask."""
        by_region = self._by_region(images)
        if mask is None:
            return ops.expand_dims(by_region, 1)
        batch, height, width, regions = ops.shape(mask)
        flat = ops.reshape(mask, (batch, height * width, regions))
        return ops.reshape(ops.matmul(flat, by_region), (batch, height, width, self.bank_size))

    def generate_kernels(self, images):
        """The kernels [batch, regions, kh * kw * channels, filters] of channels-last images, in the compute dtype."""
        if self.generator == "shared_bank":
            coefficients = ops.reshape(self._by_region(images), (-1, self.bank_size))
            kernels = mixing.mix(coefficients, self.kernel, fused=True)
            kernels = ops.reshape(kernels, (-1, self.regions, math.prod(self.kernel.shape[1:])))
        else:
            by_region = (self.regions, -1, self.bank_size)
            units = ops.reshape(ops.transpose(self._units(images), (3, 0, 1, 2, 4)), by_region)
            kernels = ops.matmul(units, ops.reshape(self.kernel, (self.regions, self.bank_size, -1)))
            kernels = kernels + ops.reshape(self.offset, (self.regions, 1, -1))
            cells = self.kernel_size[0] * self.kernel_size[1]
            kernels = ops.reshape(kernels, (self.regions, -1, cells * self.channels * self.filters))
            kernels = ops.transpose(kernels, (1, 0, 2))
        kernels = ops.cast(kernels, self.compute_dtype)
        return ops.reshape(kernels, (*ops.shape(kernels)[:2], -1, self.filters))

    def compute_output_spec(self, inputs, region_mask=None):
        # Keras does not trace `call` where the shape can be had without.
        self._check_presence(region_mask)
        mask_shape = None if region_mask is None else region_mask.shape
        return KerasTensor(self.compute_output_shape(inputs.shape, mask_shape), dtype=self.compute_dtype)

    def compute_output_shape(self, inputs_shape, region_mask_shape=None):
        self.check_mask(region_mask_shape)
        return self.shape_of_outputs(inputs_shape, self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "regions": self.regions,
            "bank_size": self.bank_size,
            "generator": self.generator,
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "routing_initializer": initializers.serialize(self.routing_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
            "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": regularizers.serialize(self.activity_regularizer),
            "kernel_constraint": constraints.serialize(self.kernel_constraint),
            "bias_constraint": constraints.serialize(self.bias_constraint),
        }


def _pointwise(images, kernel):
    """A convolution with a 1 x 1 kernel."""
    return ops.matmul(images, kernel[0, 0])
