"""Resizing and pooling of images by matrix products.

The gradient of a gather is a scatter, and XLA does not compile the gradient of Keras's nearest-neighbor resize. The
gradient of a product with a constant matrix is another product, which every device computes fast.
"""

from keras import ops


def nearest(images, sizes):
    """Resizes by nearest neighbors: output (i, j) is pixel (floor(i * H / h), floor(j * W / w)), as in PyTorch.

    Args:
        images: [batch, H, W, channels].
        sizes: (h, w), integers or integer tensors.

    Returns:
        [batch, h, w, channels].
    """
    old = ops.shape(images)[1:3]
    if _are_static(*old, *sizes):
        if old == tuple(sizes):
            return images
        if old[0] % sizes[0] == 0 and old[1] % sizes[1] == 0:
            return images[:, :: old[0] // sizes[0], :: old[1] // sizes[1]]
    matrices = []
    for size, count in zip(old, sizes, strict=True):
        source = ops.arange(count, dtype="int32") * size // count
        matrices.append(ops.equal(ops.expand_dims(source, 1), ops.arange(size, dtype="int32")))
    return _combine(images, *matrices)


def bilinear(images, sizes):
    """Resizes bilinearly with half-pixel centers, as TensorFlow and PyTorch (align_corners=False) do.

    Output i of h interpolates at (i + 1/2) * H / h - 1/2, clipped to the centers of the outer pixels.

    Args:
        images: [batch, H, W, channels].
        sizes: (h, w), integers or integer tensors.

    Returns:
        [batch, h, w, channels].
    """
    old = ops.shape(images)[1:3]
    if _are_static(*old, *sizes) and old == tuple(sizes):
        return images
    matrices = []
    for size, count in zip(old, sizes, strict=True):
        scale = ops.cast(size, "float32") / ops.cast(count, "float32")
        position = (ops.arange(count, dtype="float32") + 0.5) * scale - 0.5
        position = ops.clip(position, 0.0, ops.cast(size, "float32") - 1.0)
        distance = ops.abs(ops.expand_dims(position, 1) - ops.arange(size, dtype="float32"))
        matrices.append(ops.maximum(1.0 - distance, 0.0))
    return _combine(images, *matrices)


def average_pool(images, sizes):
    """Averages pixels into cells, like PyTorch's adaptive average pooling.

    Cell i of k along an axis of H pixels is the mean of pixels floor(i * H / k) to ceil((i + 1) * H / k) - 1.

    Args:
        images: [batch, H, W, channels].
        sizes: Numbers of cells along height and width, integers.

    Returns:
        [batch, *sizes, channels].
    """
    if tuple(sizes) == (1, 1):
        return ops.mean(images, axis=(1, 2), keepdims=True)
    matrices = []
    for size, count in zip(ops.shape(images)[1:3], sizes, strict=True):
        cells = ops.expand_dims(ops.arange(count, dtype="int32"), 1)
        start, end = cells * size // count, ((cells + 1) * size + count - 1) // count  # end is exclusive
        pixels = ops.expand_dims(ops.arange(size, dtype="int32"), 0)
        inside = ops.cast(ops.logical_and(pixels >= start, pixels < end), images.dtype)
        matrices.append(inside / ops.cast(end - start, images.dtype))
    return _combine(images, *matrices)


def _are_static(*sizes):
    return all(isinstance(size, int) for size in sizes)


def _combine(images, rows, columns):
    """Returns [batch, i, j, channels], the pixels weighted by rows [i, height] and columns [j, width]."""
    batch, height, width, channels = ops.shape(images)
    x = ops.matmul(ops.cast(rows, images.dtype), ops.reshape(images, (batch, height, width * channels)))
    return ops.matmul(ops.cast(columns, images.dtype), ops.reshape(x, (batch, -1, width, channels)))
