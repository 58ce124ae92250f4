"""Files of weights as other people's programs write them."""

import pytest
import tensorflow as tf


@pytest.fixture
def write_tf1(tmp_path):
    """Writes {variable: array} as a TensorFlow 1 program does, through a graph and a Saver; returns the prefix."""

    def write(variables, name="model.ckpt"):
        prefix = str(tmp_path / name)
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            made, values = [], {}
            for variable, value in variables.items():
                # Fed rather than put into the graph, which may not grow over 2 GB.
                start = tf.compat.v1.placeholder(value.dtype, value.shape)
                made.append(tf.compat.v1.Variable(start, name=variable, use_resource=False))
                values[start] = value
            session.run(tf.compat.v1.variables_initializer(made), values)
            return tf.compat.v1.train.Saver(made).save(session, prefix)

    return write
