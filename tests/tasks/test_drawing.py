"""Draws grids of images with titles."""

import numpy as np
import tensorflow as tf

from convzoo.tasks import drawing

NAMES = ["cat", "dog", "eel"]


def test_titles():
    assert drawing.label_titles(np.array([2, 0]), NAMES) == ["eel", "cat"]
    shares = np.array([[0.72, 0.28, 0.0], [0.25, 0.0, 0.75], [0.0, 1.0, 0.0], [0.004, 0.0, 0.996]], np.float32)
    assert drawing.label_titles(shares, NAMES) == ["cat 0.72, dog 0.28", "eel 0.75, cat 0.25", "dog", "eel"]


def test_a_grid_shows_the_colors_that_images_had_before_they_were_normalized():
    mean, std = np.array((120.0, 100.0, 80.0)), np.array((60.0, 50.0, 40.0))
    colors = np.array([(200, 30, 90), (0, 255, 10), (17, 18, 19)])
    images = np.broadcast_to((colors[:, None, None] - mean) / std, (3, 8, 8, 3))
    drawn = tf.io.decode_png(drawing.draw_grid(images, NAMES, mean=mean, std=std), channels=3).numpy()
    places = []
    for color in colors:
        rows, columns = np.nonzero((drawn == color).all(-1))
        assert len(rows) > 80 * 80
        places.append((rows.mean(), columns.mean()))
    assert np.ptp([row for row, _ in places]) < 2
    assert places[0][1] < places[1][1] < places[2][1]


def test_values_beyond_the_darkest_and_the_brightest_are_cut_off():
    images = np.stack([np.full((8, 8, 3), -9.0), np.full((8, 8, 3), 9.0)])
    drawn = tf.io.decode_png(drawing.draw_grid(images, NAMES[:2], mean=[128.0] * 3, std=[64.0] * 3), channels=3).numpy()
    left, right = np.split(drawn[30:], 2, axis=1) if drawn.shape[1] % 2 == 0 else np.split(drawn[30:, 1:], 2, axis=1)
    assert (left == 0).all(-1).sum() > 80 * 80
    assert (right == 255).all(-1).sum() > 80 * 80


def test_more_images_make_more_rows_and_long_titles_more_lines():
    def height(count, title):
        encoded = drawing.draw_grid(np.zeros((count, 8, 8, 3)), [title] * count, mean=[0.0] * 3, std=[1.0] * 3)
        return tf.io.decode_png(encoded).shape[0]

    assert height(1, "cat") == height(8, "cat") < height(9, "cat")
    assert height(1, "cat") < height(1, "a sea cucumber of a long name 0.72, another of a still longer name 0.28")
