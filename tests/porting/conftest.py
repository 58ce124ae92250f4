"""Checkpoints as other programs write them."""

import pytest
import tensorflow as tf


@pytest.fixture
def write_tf1(tmp_path):
    """A function that writes {variable: array} as a TensorFlow 1 checkpoint and returns its prefix."""

    def write(variables, name="model.ckpt"):
        prefix = str(tmp_path / name)
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            saved, values = [], {}
            for variable, value in variables.items():
                # A feed keeps the values out of the graph, which is limited to 2 GB.
                initial = tf.compat.v1.placeholder(value.dtype, value.shape)
                saved.append(tf.compat.v1.Variable(initial, name=variable, use_resource=False))
                values[initial] = value
            session.run(tf.compat.v1.variables_initializer(saved), values)
            return tf.compat.v1.train.Saver(saved).save(session, prefix)

    return write
