"""Mixup and CutMix: weights, boxes, mixed images and labels."""

import numpy as np
import pytest
import tensorflow as tf

from convzoo import data
from convzoo.data import mixing
from convzoo.errors import DataError

SIZE = (12, 20)


def draws(mixup, cutmix, count=2000):
    seeds = tf.stack([tf.fill([count], tf.constant(7, tf.int64)), tf.range(count, dtype=tf.int64)], 1)
    return tf.map_fn(
        lambda seed: mixing.sample(seed, SIZE, mixup, cutmix),
        seeds,
        fn_output_signature=tf.TensorSpec([6], tf.float32),
    ).numpy()


@pytest.mark.parametrize("alpha", [0.1, 0.2, 1.0, 3.0])
def test_mixup_weights_are_the_larger_of_a_beta_pair(alpha):
    shares = draws(alpha, None)[:, 0]
    rng = np.random.default_rng(0)
    expected = rng.beta(alpha, alpha, 200_000)
    expected = np.maximum(expected, 1 - expected)
    assert shares.min() >= 0.5
    assert shares.max() <= 1.0
    assert len(np.unique(shares)) > 500
    assert abs(shares.mean() - expected.mean()) < 6 * expected.std() / np.sqrt(len(shares))
    for quantile in (0.25, 0.5, 0.75):
        below = (shares <= np.quantile(expected, quantile) + 1e-6).mean()
        assert (
            below == pytest.approx(quantile, abs=6 * 0.5 / np.sqrt(len(shares)))
            or np.quantile(expected, quantile) > 0.9999
        )


def test_cutmix_boxes_and_label_weights():
    share, weight, top, left, bottom, right = draws(None, 1.0).T
    np.testing.assert_array_equal(weight, 0.0)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (bottom <= SIZE[0]).all()
    assert (right <= SIZE[1]).all()
    assert ((bottom >= top) & (right >= left)).all()
    np.testing.assert_allclose(share, 1 - (bottom - top) * (right - left) / (SIZE[0] * SIZE[1]), atol=1e-6)
    # Boxes reach every corner, and are of every size.
    assert top.min() == left.min() == 0
    assert (bottom.max(), right.max()) == SIZE
    assert share.min() < 0.4
    assert share.max() > 0.98


def test_with_both_each_is_used_half_of_the_time():
    by_cutmix = (draws(0.2, 1.0)[:, 1] == 0.0).mean()
    assert by_cutmix == pytest.approx(0.5, abs=6 * 0.5 / np.sqrt(2000))


def test_images_and_labels_against_numpy():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, *SIZE, 3), np.uint8)
    labels = np.array([0, 3, 1, 1, 2], np.int32)
    found = np.array(
        [
            [0.75, 0.75, 0, 0, 12, 20],
            [1 - 6 * 5 / 240, 0.0, 2, 3, 8, 8],
            [1.0, 0.0, 4, 4, 4, 9],
            [0.5, 0.5, 0, 0, 12, 20],
            [0.0, 0.0, 0, 0, 12, 20],
        ],
        np.float32,
    )
    mixed, shares = tf.function(lambda x: mixing.mix(x, labels, tf.constant(found), 4, True, lambda image: image))(
        images
    )
    for index, (share, weight, *box) in enumerate(found):
        top, left, bottom, right = (int(side) for side in box)
        partner = (index - 2) % 5
        expected = images[index].astype(float)
        inside = np.s_[top:bottom, left:right]
        expected[inside] = weight * expected[inside] + (1 - weight) * images[partner][inside]
        np.testing.assert_allclose(mixed[index], expected, atol=1e-3)
        label = np.zeros(4)
        label[labels[index]] += share
        label[labels[partner]] += 1 - share
        np.testing.assert_allclose(shares[index], label, atol=1e-6)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.2, None), (None, 1.0), (0.2, 1.0)])
@pytest.mark.parametrize("batch_size", [2, 7])
def test_batches_of_mixed_labels(idx_folder, settings, mixup, cutmix, batch_size):
    source = data.open_source(f"idx:{idx_folder}")
    augmentation = data.Augmentation(mixup=mixup, cutmix=cutmix)
    batches = data.train_dataset(source, "train", batch_size=batch_size, seed=0, augmentation=augmentation, **settings)
    assert batches.element_spec["label"] == tf.TensorSpec([batch_size, source.num_classes], tf.float32)
    assert batches.element_spec["image"] == tf.TensorSpec([batch_size, 6, 5, 3], tf.float32)
    mixed = 0
    for batch in batches.take(12):
        label = batch["label"].numpy()
        np.testing.assert_allclose(label.sum(-1), 1.0, atol=1e-6)
        assert (label >= -1e-6).all()
        mixed += (label.max(-1) < 0.999).sum()
    assert mixed > 0


def test_mixing_needs_two_images(idx_folder, settings):
    source = data.open_source(f"idx:{idx_folder}")
    augmentation = data.Augmentation(mixup=0.2, repeated_augmentation=2)
    with pytest.raises(DataError, match=r"batch_size=2 .* 4"):
        data.train_dataset(source, "train", batch_size=2, seed=0, augmentation=augmentation, **settings)
