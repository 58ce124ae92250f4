"""Functions with a gradient of their own."""

import contextlib

import keras
from keras import ops


def own_gradient(function):
    """`keras.ops.custom_gradient`, with one form of gradient for all backends and with the layer's name on it.

    TensorFlow calls the operations of a gradient after the operation that it is of, but those of a custom gradient
    after nothing, so that no profile could tell which layer their time belongs to. Here they are called after the
    scope in which `function` is called.

    Args:
        function: Of tensors to (outputs, gradient); gradient is a function of the gradient of the outputs, one tensor,
            to those of the arguments.

    Returns:
        A function of tensors to the outputs.
    """

    @ops.custom_gradient
    def compute(*arguments):
        outputs, gradient = function(*arguments)
        scope = _scope()

        # The backends hand the gradient of the outputs over in two ways.
        def named(*args, upstream=None):
            with scope():
                return gradient(args[0] if upstream is None else upstream)

        return outputs, named

    return compute


def _scope():
    """A function that enters, for a while, the scope of names that is open now."""
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext
    import tensorflow as tf

    name = tf.get_current_name_scope()
    return lambda: tf.name_scope(f"{name}/") if name else contextlib.nullcontext()
