"""convzoo: Keras layers, networks and a training program for efficient dynamic and sparse convolutions.

`convzoo.layers` and `convzoo.models` need only Keras 3 and run on any of its backends. `convzoo.data`, `convzoo.tasks`,
`convzoo.training` and `convzoo.serving` need TensorFlow. A package is imported on first use, so that `import convzoo`
starts no framework. Importing Keras, before or after, also registers the layers: `keras.models.load_model` then reads
`.keras` files that contain them.

Example:
    >>> import convzoo
    >>> convzoo.models.create_model("mobilenet_v1_x0_25", num_classes=10, input_shape=(32, 32, 3)).output_shape
    (None, 10)
"""

import importlib
import importlib.abc
import importlib.metadata
import importlib.util
import sys

try:
    __version__ = importlib.metadata.version("convzoo")  # of the newest git tag when convzoo was installed
except importlib.metadata.PackageNotFoundError:  # this folder on PYTHONPATH
    __version__ = "unknown"
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


class _LayerRegistration(importlib.abc.MetaPathFinder):
    """Imports `convzoo.layers`, which registers the layers with Keras, as soon as somebody has imported Keras."""

    def find_spec(self, name, path=None, target=None):
        if name != "keras":
            return None
        sys.meta_path.remove(self)
        if (spec := importlib.util.find_spec(name)) is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module):
                execute(module)
                importlib.import_module("convzoo.layers")

            spec.loader.exec_module = execute_and_register
        return spec


if "keras" in sys.modules:
    importlib.import_module("convzoo.layers")
else:
    sys.meta_path.insert(0, _LayerRegistration())
