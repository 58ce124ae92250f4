r"""Times networks side by side: images per second of training and of inference, and the ratio to the first network.

    python scripts/benchmark_models.py --models=efficientnet_b0,efficientnet_condconv_b0_8e
    python scripts/benchmark_models.py --models=efficientnet_b0,timm:tf_efficientnet_b0     # pip install timm

Each round times all networks once, turn about; the rate is that of the median round, the ratio the median of the
rounds' own ratios, with the quartiles beside it: a busy machine slows a whole round rather than one network.

On a machine that does other work --clock=cpu is steadier: it counts the seconds that all threads of this process
computed, not those that they waited for a core. Its ratios are of work: threads that wait for one another do not show.

Training is the step of the training loop, compiled as there: forward and backward pass of a batch that is in memory
already, weight decay and the optimiser. Inference is the compiled forward pass. Networks of PyTorch Image Models
("timm:NAME") make the same step on the CPU, as PyTorch runs it uncompiled; their images are channels first.
"""

import datetime
import json
import math
import os
import platform
import shlex
import statistics
import sys
import time

import tabulate
from absl import flags

from convzoo.training import program

MODELS = flags.DEFINE_list("models", None, "Names of networks, the first to compare with; or timm:NAME.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "Images of a step, over all replicas.", lower_bound=1)
IMAGE_SIZE = flags.DEFINE_integer("image_size", 224, "Height and width in pixels.", lower_bound=1)
MODE = flags.DEFINE_list("mode", ["train", "inference"], "train, inference or both.")
REPEATS = flags.DEFINE_integer("repeats", 9, "Rounds.", lower_bound=1)
OPTIMIZER = flags.DEFINE_enum("optimizer", "rmsprop", ["rmsprop", "sgd"], "With momentum.")
PRECISION = flags.DEFINE_enum("precision", "float32", ["float32", "mixed_bfloat16"], "Of our networks.")
CLOCK = flags.DEFINE_enum("clock", "wall", ["wall", "cpu"], "Seconds that passed, or that the CPU computed.")
OUTPUT = flags.DEFINE_string("output", None, "Also writes OUTPUT.md and OUTPUT.json.")
program.define_devices()

MODES = ("train", "inference")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
TIMM = "timm:"
CLASSES = 1000
LEARNING_RATE, WEIGHT_DECAY = 1e-4, 1e-5  # so small that noise for pictures loses no network
SECONDS_A_TIMING = 1.0  # at least; a step on a GPU is too short to be timed alone


def main():
    program.require("models")
    from convzoo.training.config import ConfigError
    from convzoo.training.timing import turn_about

    unknown = [mode for mode in MODE.value if mode not in MODES]
    if unknown:
        raise ConfigError(f"--mode={unknown[0]} is not known; give train, inference or both")
    if len(set(MODELS.value)) < len(MODELS.value):
        raise ConfigError(f"--models={','.join(MODELS.value)} names a network twice")
    _look_up(MODELS.value)
    devices = program.connect()
    if CLOCK.value == "cpu" and devices.kind != "cpu":
        raise ConfigError(f"--clock=cpu does not see what a {devices.kind} does; use --clock=wall or --devices=cpu")
    report = _about(devices)
    for mode in MODE.value:
        calls, steps = {}, {}
        for name in MODELS.value:
            make = _timm if name.startswith(TIMM) else _ours
            step = make(name.removeprefix(TIMM), mode, devices)
            steps[name], calls[name] = _long_enough(step)
        seconds = turn_about(calls, REPEATS.value, CLOCKS[CLOCK.value])
        report["results"] += _results(mode, seconds, steps)
        print(f"\n{_table(report, mode)}", flush=True)
    report["load_at_end"] = os.getloadavg()[0]
    print(f"\n{_caption(report)}")
    if OUTPUT.value:
        tables = "\n\n".join(_table(report, mode) for mode in MODE.value)
        program.write_output(f"{OUTPUT.value}.md", f"{tables}\n\n{_caption(report)}\n")
        program.write_output(f"{OUTPUT.value}.json", json.dumps(report, indent=2) + "\n")


def _look_up(names):
    """Raises for a network that cannot be built, before another one takes its time."""
    from convzoo import models
    from convzoo.training.config import ConfigError, first_line

    for name in names:
        if not name.startswith(TIMM):
            models.info(name)
            continue
        try:
            import timm
            import torch  # noqa: F401
        except Exception as error:  # wheels that do not fit each other raise anything
            raise ConfigError(
                f"{name} needs torch and timm, which cannot be imported ({first_line(error)}): pip install torch timm"
            ) from error
        if not timm.is_model(name.removeprefix(TIMM)):
            raise ConfigError(f"timm {timm.__version__} has no network {name.removeprefix(TIMM)!r}")


def _ours(name, mode, devices):
    """A function of one step of our network `name`; it waits for the result."""
    import keras
    import tensorflow as tf

    from convzoo import models
    from convzoo.configs import base
    from convzoo.training.config import ConfigError
    from convzoo.training.optimizers import make_optimizer
    from convzoo.training.step import TrainStep

    if BATCH_SIZE.value % devices.num_replicas:
        raise ConfigError(f"--batch_size={BATCH_SIZE.value} does not divide by {devices.num_replicas} replicas")
    size, share = IMAGE_SIZE.value, BATCH_SIZE.value // devices.num_replicas
    strategy, before = devices.strategy, keras.config.dtype_policy()
    keras.config.set_dtype_policy(PRECISION.value)
    try:
        with strategy.scope():
            model = models.create_model(name, CLASSES, (size, size, 3))
            if mode == "train":
                config = base.get_config()
                config.optimizer.name = OPTIMIZER.value
                optimizer = make_optimizer(config, LEARNING_RATE)
                optimizer.build(model.trainable_weights)
                step = TrainStep(
                    model,
                    optimizer,
                    batch_size=BATCH_SIZE.value,
                    num_replicas=devices.num_replicas,
                    weight_decay=WEIGHT_DECAY,
                )
    finally:
        keras.config.set_dtype_policy(before)

    def run(batch):
        if mode == "train":
            return step(batch)["loss"]
        return tf.reduce_sum(model(batch["image"], training=False))

    # The batch is an argument: TensorFlow would compute once and for all what hangs on constants alone.
    compiled = tf.function(
        lambda batch: strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(run, args=(batch,)), axis=None)
    )
    batch = {
        "image": tf.random.stateless_normal((share, size, size, 3), (0, 0)),
        "label": tf.range(share, dtype=tf.int32) % CLASSES,
    }
    return lambda: float(compiled(batch))


def _timm(name, mode, devices):
    """The same of a network of timm, on the CPU."""
    import timm
    import torch

    from convzoo.training.config import ConfigError

    if devices.kind != "cpu" or devices.num_replicas > 1 or PRECISION.value != "float32":
        raise ConfigError(f"{TIMM}{name} is timed on one CPU in float32 alone; leave it out or use --devices=cpu")
    torch.set_num_threads(_threads())
    size = IMAGE_SIZE.value
    images = torch.randn(BATCH_SIZE.value, 3, size, size)
    labels = torch.arange(BATCH_SIZE.value) % CLASSES
    model = timm.create_model(name, num_classes=CLASSES).train(mode == "train")
    if mode == "inference":

        def infer():
            with torch.inference_mode():
                return float(model(images).sum())

        return infer
    rule = torch.optim.RMSprop if OPTIMIZER.value == "rmsprop" else torch.optim.SGD
    optimizer = rule(model.parameters(), lr=LEARNING_RATE, momentum=0.9, weight_decay=WEIGHT_DECAY)

    def train():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return float(loss)

    return train


def _long_enough(step):
    """How many steps make one timing, and a call of so many."""
    for _ in range(2):  # the first compiles, and the second may still be slow
        step()
    start = time.perf_counter()
    step()
    number = math.ceil(SECONDS_A_TIMING / (time.perf_counter() - start))
    return number, lambda: [step() for _ in range(number)]


def _results(mode, seconds, steps):
    first = MODELS.value[0]
    results = []
    for name in MODELS.value:
        rates = [BATCH_SIZE.value * steps[name] / value for value in seconds[name]]
        firsts = [BATCH_SIZE.value * steps[first] / value for value in seconds[first]]
        ratios = [rate / other for rate, other in zip(rates, firsts, strict=True)]
        results.append(
            {
                "model": name,
                "mode": mode,
                "images_per_second": statistics.median(rates),
                "ratio": statistics.median(ratios),
                "ratio_quartiles": _quartiles(ratios),
                "rates": rates,
            }
        )
    return results


def _quartiles(values):
    if len(values) < 2:
        return [values[0], values[0]]
    lower, _, upper = statistics.quantiles(values, method="inclusive")
    return [lower, upper]


def _table(report, mode):
    rows = [
        {
            "network": result["model"],
            f"{mode}, images/s": f"{result['images_per_second']:.1f}",
            f"ratio to {MODELS.value[0]}": f"{result['ratio']:.2f}",
            "quartiles": "{:.2f} to {:.2f}".format(*result["ratio_quartiles"]),
        }
        for result in report["results"]
        if result["mode"] == mode
    ]
    return tabulate.tabulate(rows, "keys", "pipe", disable_numparse=True, colalign=("left", "right", "right", "right"))


def _threads():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _about(devices):
    import keras
    import tensorflow as tf

    import convzoo

    versions = {"python": platform.python_version(), "convzoo": convzoo.__version__}
    versions |= {"tensorflow": tf.__version__, "keras": keras.__version__}
    versions |= {name: sys.modules[name].__version__ for name in ("torch", "timm") if name in sys.modules}
    return {
        "command": shlex.join(["python", "scripts/benchmark_models.py", *sys.argv[1:]]),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions,
        "devices": f"{devices.num_replicas} x {devices.kind}",
        "processor": platform.machine(),
        "threads": _threads(),
        "onednn": os.environ["TF_ENABLE_ONEDNN_OPTS"],
        "batch_size": BATCH_SIZE.value,
        "image_size": IMAGE_SIZE.value,
        "precision": PRECISION.value,
        "optimizer": OPTIMIZER.value,
        "rounds": REPEATS.value,
        "clock": CLOCK.value,
        "load_at_start": os.getloadavg()[0],
        "results": [],
    }


def _caption(report):
    versions = ", ".join(f"{name} {value}" for name, value in report["versions"].items())
    return (
        f"Batch {report['batch_size']}, {report['image_size']} x {report['image_size']}, {report['precision']}, "
        f"{report['optimizer']}; {report['devices']}, {report['threads']} {report['processor']} threads, "
        f"TF_ENABLE_ONEDNN_OPTS={report['onednn']}; {report['rounds']} rounds, "
        f"{'seconds that passed' if report['clock'] == 'wall' else 'CPU seconds'}, "
        f"load {report['load_at_start']:.1f} before and {report['load_at_end']:.1f} after; "
        f"{versions}. `{report['command']}`"
    )


if __name__ == "__main__":
    program.run(main)
