"""Other ways to compute the layers, for comparison: those of the authors' code and of other ports.

All need a static batch size.
"""

from keras import layers, ops

from convzoo.layers import CondConv2D, CondDense, DepthwiseCondConv2D, DRConv2D


class UnrolledCondConv2D(CondConv2D):
    """CondConv2D with one convolution per example, as in the authors' code."""

    def convolve(self, images, routing_weights, training):
        def convolve_one(image, kernel):
            return ops.conv(image, kernel, self.strides, self.padding, data_format="channels_last")

        return _unroll(convolve_one, images, self.mix(routing_weights, self.kernel))


class UnrolledDepthwiseCondConv2D(DepthwiseCondConv2D):
    """DepthwiseCondConv2D with one convolution per example, as in the authors' code."""

    def convolve(self, images, routing_weights, training):
        def convolve_one(image, kernel):
            return ops.depthwise_conv(image, kernel, self.strides, self.padding, data_format="channels_last")

        return _unroll(convolve_one, images, self.mix(routing_weights, self.kernel))


class UnrolledCondDense(CondDense):
    """CondDense with one matrix product per example."""

    def compute_outputs(self, inputs, routing_weights, training):
        return _unroll(ops.matmul, inputs, self.mix(routing_weights, self.kernel))


class MaskedDRConv2D(DRConv2D):
    """DRConv2D as in other ports: one grouped convolution with the kernels of all regions, masked and summed."""

    def call(self, inputs, region_mask):
        batch, height, width, channels = inputs.shape
        window, outputs = self.kernel_size, batch * self.regions * self.filters
        kernels = ops.reshape(self.generate_kernels(inputs), (batch, self.regions, *window, channels, self.filters))
        kernels = ops.reshape(ops.transpose(kernels, (2, 3, 4, 0, 1, 5)), (*window, channels, outputs))
        folded = ops.reshape(ops.transpose(inputs, (1, 2, 0, 3)), (1, height, width, batch * channels))
        y = ops.conv(folded, kernels, self.strides, self.padding, data_format="channels_last")
        y = ops.reshape(y, (*y.shape[1:3], batch, self.regions, self.filters))
        return ops.sum(ops.transpose(y, (2, 0, 1, 3, 4)) * ops.expand_dims(region_mask, 4), axis=3)


def equal_groups(filters):
    """Returns Keras's 1x1 convolution in two equal groups."""
    return layers.Conv2D(filters, 1, groups=2, use_bias=False)


def separate_convolutions(filters, group_size, strides):
    """Returns a function that applies a grouped 3x3 and then a 1x1 convolution, where a lean layer adds the two."""

    def apply(images):
        channels, named = images.shape[3], {"strides": strides, "padding": "same", "use_bias": False}
        if group_size == 1:
            x = layers.DepthwiseConv2D(3, **named)(images)
        else:
            x = layers.Conv2D(channels, 3, groups=channels // group_size, **named)(images)
        return layers.Conv2D(filters, 1, use_bias=False)(x)

    return apply


def _unroll(compute, inputs, kernels):
    """Returns `compute` of each example [1, ...] and its kernel, concatenated along the batch."""
    pairs = zip(ops.split(inputs, inputs.shape[0]), ops.unstack(kernels), strict=True)
    return ops.concatenate([compute(example, kernel) for example, kernel in pairs])
