"""Boxes against straightforward NumPy in float64: offsets, matching and losses, and their gradients."""

import math
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from keras.utils import bounding_boxes

from convzoo.models.anchors import grid_anchors, ssd_shapes
from convzoo.tasks import boxes as box_functions

ANCHORS = grid_anchors([(4, 4), (2, 2)], ssd_shapes(2))


def random_boxes(*shape, seed=0):
    """Returns boxes of 5 to 80 % of the side, some of which reach beyond the image."""
    generator = np.random.default_rng(seed)
    center, size = generator.uniform(0, 1, (*shape, 2)), generator.uniform(0.05, 0.8, (*shape, 2))
    return np.concatenate([center - size / 2, center + size / 2], -1).astype("float32")


def one_iou(a, b):
    height = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    width = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return height * width / (sum(areas) - height * width)


def test_offsets():
    box, anchor = np.array([0.1, 0.2, 0.4, 0.3]), np.array([0.0, 0.0, 0.5, 0.2])
    expected = [10 * (0.25 - 0.25) / 0.5, 10 * (0.25 - 0.1) / 0.2, 5 * math.log(0.3 / 0.5), 5 * math.log(0.1 / 0.2)]
    result = box_functions.encode(tf.constant([box], tf.float32), tf.constant([anchor], tf.float32))
    np.testing.assert_allclose(result, [expected], atol=1e-5)
    boxes = random_boxes(3, len(ANCHORS))
    decoded = box_functions.decode(box_functions.encode(boxes, ANCHORS), ANCHORS)
    np.testing.assert_allclose(decoded, boxes, atol=1e-5)


def test_offsets_of_a_box_without_area_are_finite():
    offsets = box_functions.encode(tf.zeros([2, len(ANCHORS), 4]), tf.constant(ANCHORS))
    assert np.all(np.isfinite(offsets))


def matches_of_one_image(boxes, anchors, threshold):
    """Matches by loops."""
    overlap = np.array([[one_iou(box, anchor) for anchor in anchors] for box in boxes])
    result = np.full(len(anchors), -1)
    for index in range(len(anchors)):
        if len(boxes) and overlap[:, index].max() >= threshold:
            result[index] = overlap[:, index].argmax()
    forced = {}
    for index in range(len(boxes)):
        forced.setdefault(overlap[index].argmax(), index)
    for anchor, index in forced.items():
        result[anchor] = index
    return result


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.99])
def test_matching(threshold):
    boxes, counts = random_boxes(4, 6, seed=2), np.array([6, 3, 1, 0], np.int32)
    result = box_functions.match(tf.constant(boxes), tf.constant(counts), tf.constant(ANCHORS), threshold).numpy()
    for image, count in enumerate(counts):
        expected = matches_of_one_image(boxes[image, :count].astype(float), ANCHORS.astype(float), threshold)
        np.testing.assert_array_equal(result[image], expected)
    assert (result[3] == -1).all()  # an image without boxes


def test_small_boxes_have_an_anchor_and_those_without_area_none():
    tiny, flat = [0.5, 0.5, 0.501, 0.501], [0.2, 0.3, 0.2, 0.9]
    boxes = tf.constant([[tiny, flat, tiny]])
    result = box_functions.match(boxes, tf.constant([3]), tf.constant(ANCHORS)).numpy()
    assert sorted(set(result[0])) == [-1, 0]  # the first of two equal boxes


def numpy_focal_loss(targets, logits, alpha, gamma):
    probability = 1 / (1 + np.exp(-logits))
    right = np.where(targets == 1, probability, 1 - probability)
    return np.where(targets == 1, alpha, 1 - alpha) * (1 - right) ** gamma * -np.log(right)


def gradient(function, x, step=1e-6):
    """Returns the derivative by central differences of a function that acts on each element."""
    return (function(x + step) - function(x - step)) / (2 * step)


def check_with_gradient(function, expected, x):
    """Compares values and derivatives of a TensorFlow function of x with those of a NumPy function in float64."""
    variable = tf.constant(x, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        values = function(variable)
    np.testing.assert_allclose(values, expected(x), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(tape.gradient(values, variable), gradient(expected, x), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.75, 2.0), (0.25, 1.5), (0.5, 0.0)])
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_focal_loss(alpha, gamma, target):
    logits = np.linspace(-8, 8, 41)
    targets = np.full_like(logits, target)
    check_with_gradient(
        lambda x: box_functions.focal_loss(tf.constant(targets, tf.float32), x, alpha, gamma),
        lambda x: numpy_focal_loss(targets, x, alpha, gamma),
        logits,
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_of_extreme_logits_is_finite(gamma):
    logits = tf.constant([-200.0, 200.0, -200.0, 200.0])
    targets = tf.constant([0.0, 0.0, 1.0, 1.0])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        losses = box_functions.focal_loss(targets, logits, gamma=gamma)
    np.testing.assert_allclose(losses, [0, 50, 150, 0], atol=1e-5)
    assert np.all(np.isfinite(tape.gradient(losses, logits)))


def test_hard_negatives():
    generator = np.random.default_rng(3)
    logits = generator.normal(size=(3, 20, 4)).astype("float32")
    targets = np.zeros_like(logits)
    positives = {0: [2, 7], 1: [5], 2: []}
    for image, anchors in positives.items():
        targets[image, anchors, 1] = 1
    losses = box_functions.hard_negative_loss(tf.constant(targets), tf.constant(logits), ratio=3).numpy()
    entropy = -(np.log(1 / (1 + np.exp(np.where(targets == 1, -logits, logits).astype(float))))).sum(-1)
    for image, anchors in positives.items():
        negatives = [index for index in np.argsort(-entropy[image]) if index not in anchors][: 3 * len(anchors)]
        expected = np.zeros(20)
        expected[[*anchors, *negatives]] = entropy[image, [*anchors, *negatives]]
        np.testing.assert_allclose(losses[image], expected, rtol=1e-4)


def test_more_hard_negatives_than_anchors():
    losses = box_functions.hard_negative_loss(tf.ones([1, 3, 1]), tf.zeros([1, 3, 1]), ratio=3)
    np.testing.assert_allclose(losses, np.full((1, 3), math.log(2)), rtol=1e-5)


def test_matching_and_losses_compile_with_static_shapes():
    @tf.function(jit_compile=True)
    def compute(boxes, counts, logits):
        matches = box_functions.match(boxes, counts, tf.constant(ANCHORS))
        targets = tf.one_hot(tf.where(matches >= 0, 1, -1), 3)
        return tf.reduce_sum(box_functions.focal_loss(targets, logits)), box_functions.hard_negative_loss(
            targets, logits
        )

    total, losses = compute(tf.constant(random_boxes(2, 5)), tf.constant([5, 2]), tf.zeros([2, len(ANCHORS), 3]))
    assert float(total) > 0
    assert losses.shape == (2, len(ANCHORS))


def test_torchvision():
    """Default boxes, IoU, offsets, focal loss and non-maximum suppression; tests/goldens/make_detection.py."""
    golden = np.load(pathlib.Path(__file__).parents[1] / "goldens" / "torchvision_detection.npz")
    yxyx = [1, 0, 3, 2]
    sizes = [(side, side) for side in (20, 10, 5, 3, 2, 1)]
    theirs, ours = golden["default_boxes"][:, yxyx], grid_anchors(sizes, ssd_shapes(6, reduce_lowest=False))
    # Their shapes of a position have another order.
    theirs, ours = (x[np.lexsort(np.round(x, 4).T)] for x in (theirs, ours))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    boxes, others = golden["boxes"][:, yxyx], golden["others"][:, yxyx]
    np.testing.assert_allclose(bounding_boxes.compute_iou(boxes, others, "yxyx"), golden["iou"], atol=1e-5)
    np.testing.assert_allclose(box_functions.encode(boxes, others), golden["offsets"][:, yxyx], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        box_functions.focal_loss(tf.constant(golden["targets"]), tf.constant(golden["logits"], tf.float32)),
        golden["focal"],
        rtol=1e-4,
        atol=1e-7,
    )
    logits = np.full((1, len(boxes), 3), -30.0, "float32")
    scores = golden["scores"]
    logits[0, np.arange(len(boxes)), golden["classes"]] = np.log(scores / (1 - scores))
    found = box_functions.detect(tf.constant(boxes[np.newaxis]), tf.constant(logits), iou_threshold=0.5)
    kept = golden["kept"]
    assert found["count"][0] == len(kept)
    np.testing.assert_array_equal(found["boxes"][0, : len(kept)], boxes[kept])
    np.testing.assert_array_equal(found["classes"][0, : len(kept)], golden["classes"][kept])
