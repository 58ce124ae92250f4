"""Boxes of detectors: offsets from anchors, matching, and losses. All shapes are static, as a TPU needs.

`keras.losses.huber` is the loss of the offsets, and `keras.utils.bounding_boxes` has functions of boxes such as IoU.

Boxes are float32 [..., 4] of (top, left, bottom, right). Images have different numbers of boxes, so the boxes of a
batch are padded with finite values such as zeros: `boxes` [batch, slots, 4], with at least one slot, of which the first
`counts` [batch] are boxes.
"""

import tensorflow as tf
from keras.utils import bounding_boxes

# Divisors of the offsets of centers (y, x) and of the logarithms of sizes (height, width), so that all have a similar
# spread.
_VARIANCE = (0.1, 0.1, 0.2, 0.2)
_LOWEST_OFFSET = -100.0  # of a box without an area, whose logarithm would be -inf


def encode(boxes: tf.Tensor, anchors: tf.Tensor) -> tf.Tensor:
    """Returns the offsets of boxes from anchors, as SSD predicts them (arXiv 1512.02325, section 2.2).

    Args:
        boxes: float32 [..., anchors, 4], one for each anchor.
        anchors: float32 [anchors, 4].

    Returns:
        float32 [..., anchors, 4]: offset of the center in units of the anchor's height and width, times 10; logarithm
        of height and width relative to the anchor's, times 5.

    Example:
        >>> encode(tf.constant([[0.0, 0.0, 1.0, 1.0]]), tf.constant([[0.0, 0.5, 1.0, 1.5]])).numpy().tolist()
        [[0.0, -5.0, 0.0, 0.0]]
    """
    offsets = bounding_boxes.encode_box_to_deltas(
        anchors, boxes, "yxyx", "yxyx", encoding_format="center_yxhw", variance=_VARIANCE
    )
    return tf.where(tf.math.is_finite(offsets), offsets, _LOWEST_OFFSET)


def decode(offsets: tf.Tensor, anchors: tf.Tensor) -> tf.Tensor:
    """Returns the boxes whose `encode` is `offsets`, float32 [..., anchors, 4].

    Example:
        >>> anchors = tf.constant([[0.0, 0.0, 1.0, 2.0]])
        >>> decode(tf.constant([[0.0, 5.0, 0.0, 0.0]]), anchors).numpy().tolist()
        [[0.0, 1.0, 1.0, 3.0]]
    """
    return bounding_boxes.decode_deltas_to_boxes(
        anchors, offsets, "yxyx", "yxyx", encoded_format="center_yxhw", variance=_VARIANCE
    )


def match(boxes: tf.Tensor, counts: tf.Tensor, anchors: tf.Tensor, threshold: float = 0.5) -> tf.Tensor:
    """Assigns a box to each anchor.

    An anchor gets the box that it overlaps most, if their IoU is at least `threshold`. Whatever their IoU, a box also
    gets the anchor that it overlaps most, unless that is the best anchor of an earlier box, or the box overlaps none.

    Args:
        boxes: float32 [batch, slots, 4].
        counts: int32 [batch].
        anchors: float32 [anchors, 4].
        threshold: Lowest IoU of a match.

    Returns:
        int32 [batch, anchors]: the index of the box, or -1 for none.

    Example:
        >>> anchors = tf.constant([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.8], [2.0, 2.0, 3.0, 3.0]])
        >>> match(tf.constant([[[0.0, 0.0, 1.0, 1.0], [0.0] * 4]]), tf.constant([1]), anchors).numpy().tolist()
        [[0, 0, -1]]
    """
    overlap = bounding_boxes.compute_iou(boxes, anchors[tf.newaxis], "yxyx")
    is_box = tf.sequence_mask(counts, boxes.shape[1])
    overlap = tf.where(is_box[..., tf.newaxis], overlap, 0.0)
    by_threshold = tf.where(
        tf.reduce_max(overlap, 1) >= threshold, tf.argmax(overlap, 1, output_type=tf.int32), tf.constant(-1)
    )
    # A box that overlaps no anchor, such as one without an area, gets none.
    best = tf.one_hot(tf.argmax(overlap, 2), anchors.shape[0]) * tf.sign(tf.reduce_max(overlap, 2, keepdims=True))
    return tf.where(tf.reduce_max(best, 1) > 0, tf.argmax(best, 1, output_type=tf.int32), by_threshold)


def focal_loss(targets: tf.Tensor, logits: tf.Tensor, alpha: float = 0.75, gamma: float = 2.0) -> tf.Tensor:
    """Returns the sigmoid focal loss (arXiv 1708.02002, section 3), of the shape of `logits`.

    Unlike `keras.losses.binary_focal_crossentropy`, which computes it from clipped probabilities, it has a gradient for
    confident errors too.

    Args:
        targets: float, 1 for the class of the anchor, else 0.
        logits: Before the sigmoid.
        alpha: Weight of the targets of 1; those of 0 have 1 - alpha. 0.75 is that of TensorFlow's MobileNet detectors.
        gamma: Exponent of the error, which gives easy examples less weight.

    Example:
        >>> float(focal_loss(tf.constant(1.0), tf.constant(0.0), alpha=0.5, gamma=0.0))  # log(2) / 2
        0.34657...
    """
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)
    # The error to the power of gamma. Its logarithm keeps value and gradient finite where the error is rounded to 0.
    modulation = tf.exp(gamma * tf.math.log_sigmoid(logits * (1.0 - 2.0 * targets)))
    return (targets * alpha + (1.0 - targets) * (1.0 - alpha)) * modulation * entropy


def hard_negative_loss(targets: tf.Tensor, logits: tf.Tensor, ratio: int = 3) -> tf.Tensor:
    """Returns the sigmoid cross-entropy of positive anchors and of the hardest negative ones (arXiv 1512.02325, 2.2).

    Args:
        targets: [batch, anchors, classes]: 1 for the class of a positive anchor, else 0.
        logits: [batch, anchors, classes], before the sigmoid.
        ratio: Negative anchors for each positive anchor of the image, those with the largest loss.

    Returns:
        float32 [batch, anchors], the sum over classes; 0 for the other anchors.

    Example:
        >>> targets = tf.constant([[[1.0], [0.0], [0.0]]])
        >>> hard_negative_loss(targets, tf.constant([[[9.0], [1.0], [2.0]]]), ratio=1).numpy().round(2)
        array([[0.  , 0.  , 2.13]], dtype=float32)
    """
    losses = tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(targets, logits), -1)
    is_positive = tf.reduce_max(targets, -1)
    num_negatives = tf.cast(ratio * tf.reduce_sum(is_positive, -1, keepdims=True), tf.int32)
    negative_losses = tf.where(is_positive > 0, -1.0, tf.stop_gradient(losses))
    # The rank of each anchor by loss: the inverse permutation of the sort.
    rank = tf.argsort(tf.argsort(negative_losses, -1, "DESCENDING", stable=True), -1, stable=True)
    is_hard = (rank < num_negatives) & (is_positive == 0)
    return losses * (is_positive + tf.cast(is_hard, tf.float32))


def detect(
    boxes: tf.Tensor,
    logits: tf.Tensor,
    *,
    iou_threshold: float = 0.6,
    score_threshold: float = 1e-8,
    max_detections: int = 100,
    candidates: int = 1000,
) -> dict[str, tf.Tensor]:
    """Returns the detections of each image: non-maximum suppression among the boxes of each class.

    Args:
        boxes: float32 [batch, anchors, 4], decoded, within 0..1.
        logits: float32 [batch, anchors, classes], before the sigmoid.
        iou_threshold: A box is dropped if its IoU with a better one of its class is larger.
        score_threshold: A box is dropped if its score, the sigmoid of its logit, is not larger.
        max_detections: Detections of an image over all classes, those with the highest scores.
        candidates: Pairs of a box and a class that are considered, those with the highest scores. It bounds the work of
            an image; RetinaNet (arXiv 1708.02002, section 4.1) considers as many of each feature map.

    Returns:
        "boxes" float32 [batch, max_detections, 4], "scores" float32 and "classes" int32 [batch, max_detections], by
        decreasing score, padded with zeros; "count" int32 [batch], the number of detections.

    Example:
        >>> boxes = tf.constant([[[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.4], [0.5, 0.5, 1.0, 1.0]]])
        >>> found = detect(boxes, tf.constant([[[3.0], [2.0], [1.0]]]), max_detections=3)
        >>> found["count"].numpy().tolist(), found["scores"].numpy().round(2).tolist()
        ([2], [[0.949999988079071, 0.7300000190734863, 0.0]])
    """
    num_anchors, num_classes = logits.shape[1:]
    flat = tf.reshape(logits, [-1, num_anchors * num_classes])
    scores, indices = tf.math.top_k(flat, min(candidates, num_anchors * num_classes))
    scores, classes = tf.sigmoid(scores), indices % num_classes
    boxes = tf.gather(boxes, indices // num_classes, batch_dims=1)
    # Boxes of different classes are moved apart, so that they never overlap.
    moved = boxes + 2.0 * tf.cast(classes, tf.float32)[..., tf.newaxis]
    selected, count = tf.image.non_max_suppression_padded(
        moved,
        scores,
        min(max_detections, scores.shape[1]),
        iou_threshold,
        score_threshold,
        pad_to_max_output_size=True,
        sorted_input=True,
        canonicalized_coordinates=True,
    )
    is_valid = tf.sequence_mask(count, selected.shape[1])
    found = {"boxes": boxes, "scores": scores, "classes": classes}
    detections = {}
    for name, values in found.items():
        values = tf.gather(values, tf.where(is_valid, selected, 0), batch_dims=1)
        mask = is_valid if values.shape.rank == 2 else is_valid[..., tf.newaxis]
        values = tf.where(mask, values, tf.zeros([], values.dtype))
        padding = [[0, 0], [0, max_detections - selected.shape[1]], *[[0, 0]] * (values.shape.rank - 2)]
        detections[name] = tf.pad(values, padding)
    return {**detections, "count": count}
