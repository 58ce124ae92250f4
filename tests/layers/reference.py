"""Conditional layers computed the slow way: NumPy, float64, one example and one window at a time."""

import numpy as np


def conv2d(image, kernel, strides=(1, 1), padding="valid", dilation=(1, 1), groups=1):
    """Convolution of one image [h, w, c] with a kernel [kh, kw, c / groups, filters], TensorFlow's padding."""
    image, out = _pad(image, kernel.shape[:2], strides, padding, dilation)
    kh, kw, cin, filters = kernel.shape
    result = np.zeros((*out, filters))
    for y in range(out[0]):
        for x in range(out[1]):
            top, left = y * strides[0], x * strides[1]
            patch = image[top : top + (kh - 1) * dilation[0] + 1 : dilation[0]]
            patch = patch[:, left : left + (kw - 1) * dilation[1] + 1 : dilation[1]]
            for f in range(filters):
                group = f // (filters // groups)
                result[y, x, f] = np.sum(patch[:, :, group * cin : (group + 1) * cin] * kernel[:, :, :, f])
    return result


def depthwise_conv2d(image, kernel, strides=(1, 1), padding="valid", dilation=(1, 1)):
    """Depthwise convolution of one image [h, w, c] with a kernel [kh, kw, c, multiplier]."""
    kh, kw, channels, multiplier = kernel.shape
    kernel = kernel.reshape(kh, kw, 1, channels * multiplier)
    return conv2d(image, kernel, strides, padding, dilation, groups=channels)


def mixed(routing, weight):
    """The weights of each example: sum over experts e of routing[b, e] * weight[e]."""
    return [sum(a * w for a, w in zip(row, weight.astype("float64"), strict=True)) for row in routing.astype("float64")]


def _pad(image, kernel, strides, padding, dilation):
    before_after, out = [], []
    for size, k, s, d in zip(image.shape[:2], kernel, strides, dilation, strict=True):
        reach = (k - 1) * d + 1
        if padding == "same":
            n = int(np.ceil(size / s))
            total = max((n - 1) * s + reach - size, 0)
        else:
            n, total = int(np.ceil((size - reach + 1) / s)), 0
        before_after.append((total // 2, total - total // 2))
        out.append(n)
    return np.pad(image.astype("float64"), (*before_after, (0, 0))), out
