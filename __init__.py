"""convzoo: Keras layers, networks and training for convolutions that spend their arithmetic where it pays.

    import convzoo
    model = convzoo.models.create_model("efficientnet_condconv_b0_8e", num_classes=10)

`convzoo.layers` and `convzoo.models` need Keras 3 alone, with any of its backends; `convzoo.data`, `convzoo.training`
and `convzoo.serving` need TensorFlow.
"""

import importlib

__version__ = "0.1.0"
__all__ = ["configs", "data", "layers", "models", "serving", "training"]


def __getattr__(name):
    # Each room on its first use: programs answer --help and wrong flags without waiting for a framework to start.
    if name in __all__:
        return importlib.import_module(f"convzoo.{name}")
    raise AttributeError(f"module 'convzoo' has no attribute {name!r}")
