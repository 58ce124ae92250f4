"""Custom gradients for all backends."""

import contextlib

import keras
from keras import ops


def custom_gradient(function):
    """Wraps `keras.ops.custom_gradient` with one signature for all backends and named gradient ops.

    TensorFlow names gradient ops after the forward op, but leaves the ops of a custom gradient unnamed, so profiles
    cannot attribute them to a layer. Here they get the name scope in which the function is called.

    Args:
        function: Maps tensors to (outputs, gradient), where outputs is one tensor and gradient maps the gradient of the
            outputs to the gradients of the arguments.

    Returns:
        A function from tensors to the outputs.

    Example:
        >>> square = custom_gradient(lambda x: (x * x, lambda upstream: 2 * x * upstream))
        >>> float(square(keras.ops.convert_to_tensor(3.0)))
        9.0
    """

    @ops.custom_gradient
    def compute(*arguments):
        outputs, gradient = function(*arguments)
        enter_scope = _current_name_scope()

        # TensorFlow and JAX pass the gradient of the outputs as the only argument, PyTorch as `upstream`.
        def named_gradient(*args, upstream=None):
            with enter_scope():
                return gradient(args[0] if upstream is None else upstream)

        return outputs, named_gradient

    return compute


def _current_name_scope():
    """Returns a function that enters TensorFlow's current name scope again."""
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext
    import tensorflow as tf

    name = tf.get_current_name_scope()
    return lambda: tf.name_scope(f"{name}/") if name else contextlib.nullcontext()
