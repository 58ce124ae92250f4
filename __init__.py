"""convzoo: Keras layers, networks and a training program for efficient dynamic and sparse convolutions.

`convzoo.layers` and `convzoo.models` need only Keras 3 and run on any of its backends. `convzoo.data`, `convzoo.tasks`,
`convzoo.training` and `convzoo.serving` need TensorFlow. A package is imported on first use, so that `import convzoo`
starts no framework.

Example:
    >>> import convzoo
    >>> convzoo.models.create_model("mobilenet_v1_x0_25", num_classes=10, input_shape=(32, 32, 3)).output_shape
    (None, 10)
"""

import importlib

__version__ = "0.1.0"
__all__ = [
    "benchmarks",
    "cli",
    "configs",
    "data",
    "errors",
    "layers",
    "models",
    "porting",
    "serving",
    "tasks",
    "tpu",
    "training",
]


def __getattr__(name):
    if name in __all__:
        return importlib.import_module(f"convzoo.{name}")
    raise AttributeError(f"module 'convzoo' has no attribute {name!r}")
