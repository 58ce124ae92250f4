"""Images brought to another size by matrix products.

A gather by positions has a scatter for its gradient, and Keras's nearest-neighbour resize has one that XLA does not
compile. A product with a matrix of zeros and ones has another product, which every device does well.
"""

from keras import ops


def nearest(images, sizes):
    """Nearest-neighbour resize: position (i, j) takes pixel (floor(i H / h), floor(j W / w)), as torch does.

    Args:
        images: [batch, H, W, channels].
        sizes: h and w, integers or integer tensors.

    Returns:
        [batch, h, w, channels].
    """
    height, width = ops.shape(images)[1:3]
    whole = all(isinstance(size, int) for size in (height, width, *sizes))
    if whole and (height, width) == tuple(sizes):
        return images
    if whole and height % sizes[0] == 0 and width % sizes[1] == 0:
        return images[:, :: height // sizes[0], :: width // sizes[1]]
    matrices = []
    for size, count in ((height, sizes[0]), (width, sizes[1])):
        taken = ops.arange(count, dtype="int32") * size // count
        matrices.append(ops.equal(ops.expand_dims(taken, 1), ops.arange(size, dtype="int32")))
    return _combine(images, *matrices)


def bilinear(images, sizes):
    """Bilinear resize: position i of h along an axis of H pixels lies at (i + 1/2) H / h - 1/2, within the centres of
    the outer pixels, as TensorFlow and torch (align_corners=False) have it.

    Args:
        images: [batch, H, W, channels].
        sizes: h and w, integers or integer tensors.

    Returns:
        [batch, h, w, channels].
    """
    height, width = ops.shape(images)[1:3]
    if all(isinstance(size, int) for size in (height, width, *sizes)) and (height, width) == tuple(sizes):
        return images
    matrices = []
    for size, count in ((height, sizes[0]), (width, sizes[1])):
        scale = ops.cast(size, "float32") / ops.cast(count, "float32")
        place = (ops.arange(count, dtype="float32") + 0.5) * scale - 0.5
        place = ops.clip(place, 0.0, ops.cast(size, "float32") - 1.0)
        distance = ops.abs(ops.expand_dims(place, 1) - ops.arange(size, dtype="float32"))
        matrices.append(ops.maximum(1.0 - distance, 0.0))
    return _combine(images, *matrices)


def average_pool(images, sizes):
    """Adaptive average pooling: cell i of k along an axis of H pixels averages those from floor(i H / k) up to
    ceil((i + 1) H / k), the last not among them, as torch does.

    Args:
        images: [batch, height, width, channels].
        sizes: numbers of cells along height and width.

    Returns:
        [batch, *sizes, channels].
    """
    if tuple(sizes) == (1, 1):
        return ops.mean(images, axis=(1, 2), keepdims=True)
    matrices = []
    for size, count in zip(ops.shape(images)[1:3], sizes, strict=True):
        cells = ops.expand_dims(ops.arange(count, dtype="int32"), 1)
        start, end = cells * size // count, ((cells + 1) * size + count - 1) // count
        pixels = ops.expand_dims(ops.arange(size, dtype="int32"), 0)
        inside = ops.cast(ops.logical_and(pixels >= start, pixels < end), images.dtype)
        matrices.append(inside / ops.cast(end - start, images.dtype))
    return _combine(images, *matrices)


def _combine(images, rows, columns):
    """[batch, i, j, channels]: sums of images' pixels, weighted by rows [i, height] and columns [j, width]."""
    batch, height, width, channels = ops.shape(images)
    x = ops.matmul(ops.cast(rows, images.dtype), ops.reshape(images, (batch, height, width * channels)))
    return ops.matmul(ops.cast(columns, images.dtype), ops.reshape(x, (batch, -1, width, channels)))
