"""convzoo: Keras layers, networks and training for convolutions that spend their arithmetic where it pays.

    import convzoo
    model = convzoo.models.create_model("efficientnet_condconv_b0_8e", num_classes=10)

`convzoo.layers` and `convzoo.models` need Keras 3 alone, with any of its backends; `convzoo.data`, `convzoo.training`
and `convzoo.serving` need TensorFlow and are imported only where they are used.
"""

from convzoo import layers, models

__version__ = "0.1.0"
__all__ = ["layers", "models"]
