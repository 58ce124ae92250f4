r"""Compares export formats: bytes on disk, difference from the Keras network, and CPU latency of the runtimes.

    python benchmarks/export_formats.py --output=formats --markers=docs/export.md
    python benchmarks/export_formats.py --models=seesawnet_shuffle_1_0d --image_size=224 --threads=2

The networks are randomly initialized, which changes neither sizes nor latencies. int8 is calibrated on generated
images. The difference is the root mean square of that of the logits over that of the network's logits.

Latency is the median over rounds, with the quartiles, of one call with one image. Each round calls all files of a
network once, in alternating order. Other load on the machine makes latencies longer; --rounds=0 leaves them out.
"""

import importlib.metadata
import importlib.util
import os
import tempfile

from absl import flags

from convzoo.benchmarks import report
from convzoo.cli import markdown, program
from convzoo.errors import ConfigError

MODELS = flags.DEFINE_list(
    "models",
    ["mobilenet_v1_condconv_x0_25", "mobilenet_v1_drconv_x0_25", "seesawnet_shuffle_0_5d", "lean_resnet18_cifar"],
    "Names of networks.",
)
IMAGE_SIZE = flags.DEFINE_integer(
    "image_size", None, "Height and width in pixels. Default: as published.", lower_bound=1
)
NUM_CLASSES = flags.DEFINE_integer("num_classes", 1000, "Number of classes.", lower_bound=1)
ROUNDS = flags.DEFINE_integer("rounds", 50, "Rounds of the latencies; 0 for sizes only.", lower_bound=0)
THREADS = flags.DEFINE_integer("threads", 1, "Threads of the LiteRT and ONNX runtimes.", lower_bound=1)
EXAMPLES = flags.DEFINE_integer("examples", 16, "Number of images of comparison and calibration.", lower_bound=1)
MARKERS = flags.DEFINE_string(
    "markers", None, "Page for the table, between <!-- export_formats --> and its end marker."
)
report.define_output()

_MARKER = "export_formats"
# Name in the table, suffix of the file, quantization.
_FORMATS = {
    "Keras": (".keras", "none"),
    "ONNX": (".onnx", "none"),
    "LiteRT": (".tflite", "none"),
    "LiteRT float16": (".tflite", "float16"),
    "LiteRT int8": (".tflite", "int8"),
}


def main():
    if MARKERS.value:
        markdown.check_markers(MARKERS.value, _MARKER)
    from convzoo import models

    if unknown := [name for name in MODELS.value if name not in models.list_models()]:
        raise ConfigError(f"--models={unknown[0]} is unknown; convzoo list shows all networks")
    result = report.start("benchmarks/export_formats.py", rounds=ROUNDS.value, threads=THREADS.value, results=[])
    result["versions"] |= _runtime_versions()
    for name in MODELS.value:
        result["results"] += _measure(name)
        print(report.table([_row(entry) for entry in result["results"]], left=2), flush=True)
    table = report.table([_row(entry) for entry in result["results"]], left=2)
    fact = f"{THREADS.value} threads, {ROUNDS.value} rounds, {EXAMPLES.value} images"
    report.finish(result, [table], fact)
    if MARKERS.value:
        markdown.write_between(MARKERS.value, _MARKER, f"\n{table}\n\n{report.caption(result, fact)}\n\n")


def _measure(name):
    """Returns the results of the formats of a network."""
    import keras

    from convzoo import models, serving
    from convzoo.benchmarks.timing import time_alternating
    from convzoo.tasks import TASKS

    keras.utils.set_random_seed(0)
    info = models.info(name)
    size = IMAGE_SIZE.value or info.input_size
    model = models.create_model(name, NUM_CLASSES.value, (size, size, 3))
    preprocessing = info.preprocessing
    settings = {
        "image_size": (size, size),
        "mean": preprocessing.mean,
        "std": preprocessing.std,
        "crop_fraction": preprocessing.crop_fraction,
        "interpolation": preprocessing.interpolation,
    }
    images = serving.generated_images(EXAMPLES.value, (size, size))
    names = [str(label) for label in range(NUM_CLASSES.value)]
    entries, calls = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for title, (suffix, quantize) in _FORMATS.items():
            path = os.path.join(folder, f"{quantize}{suffix}")
            with program.startup.without_log_messages():
                parity = serving.export_model_file(
                    model, path, names, TASKS["classification"], images=images, quantize=quantize,
                    calibration_images=images, tolerance=float("inf"), min_agreement=0.0, **settings,
                )  # fmt: skip
            entry = {"model": name, "image_size": size, "params": model.count_params(), "format": title}
            entry |= {"bytes": os.path.getsize(path), "difference": parity.relative["logits"]}
            entries.append(entry)
            if ROUNDS.value and suffix != ".keras":
                with program.startup.without_log_messages():
                    loaded = serving.load_model_file(path, THREADS.value)
                    loaded(images[:1])
                calls[title] = lambda loaded=loaded: loaded(images[:1])
        for title, seconds in time_alternating(calls, ROUNDS.value).items() if calls else ():
            (entry,) = [entry for entry in entries if entry["format"] == title]
            entry["milliseconds"] = [1000 * value for value in report.quartiles(seconds)]
    return entries


def _row(entry):
    latency = ""
    if "milliseconds" in entry:
        lower, median, upper = entry["milliseconds"]
        latency = f"{median:.2f} ({lower:.2f} to {upper:.2f})"
    return {
        "network": f"{entry['model']}, {entry['image_size']} x {entry['image_size']}",
        "format": entry["format"],
        "MB": f"{entry['bytes'] / 1e6:.2f}",
        "bytes per weight": f"{entry['bytes'] / entry['params']:.2f}",
        "difference": f"{entry['difference']:.1e}",
        **({"latency, ms": latency} if ROUNDS.value else {}),
    }


def _runtime_versions():
    packages = ("ai-edge-litert", "onnx", "onnxruntime", "tf2onnx")
    found = {name for name in packages if importlib.util.find_spec(name.replace("-", "_"))}
    return {name: importlib.metadata.version(name) for name in packages if name in found}


if __name__ == "__main__":
    program.run(main)
