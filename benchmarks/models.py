r"""Times networks: images per second of training and inference, and the ratio to the first network.

    python benchmarks/models.py --models=efficientnet_b0,efficientnet_condconv_b0_8e
    python benchmarks/models.py --models=efficientnet_b0,timm:tf_efficientnet_b0     # pip install timm

Each round times all networks once, in alternating order. The table has the rate of the median round, and the median and
quartiles of the rounds' ratios, because other load on the machine slows a whole round rather than one network.

--clock=cpu measures the CPU seconds of all threads instead of elapsed time. Its ratios vary less on a
machine with other load, but do not show threads that wait for one another.

Training is the compiled step of train.py on one batch in memory: forward and backward pass, weight decay and optimizer.
Inference is the compiled forward pass. Networks of PyTorch Image Models ("timm:NAME") make the same step on the CPU,
uncompiled and with channels first, in processes of their own.
"""

import functools
import math
import time

from absl import flags

from convzoo.benchmarks import report
from convzoo.benchmarks.timm_networks import TimmProcess
from convzoo.cli import program
from convzoo.errors import ConfigError

MODELS = flags.DEFINE_list("models", None, "Names of networks or timm:NAME; ratios are to the first.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "Images per step, over all replicas.", lower_bound=1)
IMAGE_SIZE = flags.DEFINE_integer("image_size", 224, "Height and width in pixels.", lower_bound=1)
MODE = flags.DEFINE_list("mode", ["train", "inference"], "train, inference or both.")
REPEATS = flags.DEFINE_integer("repeats", 9, "Rounds.", lower_bound=1)
OPTIMIZER = flags.DEFINE_enum("optimizer", "rmsprop", ["rmsprop", "sgd"], "Optimizer, with momentum.")
PRECISION = flags.DEFINE_enum("precision", "float32", ["float32", "mixed_bfloat16"], "Precision of convzoo's networks.")
CLOCK = flags.DEFINE_enum("clock", "wall", ["wall", "cpu"], "Elapsed seconds or CPU seconds.")
report.define_output()
program.define_devices()

_MODES = ("train", "inference")
_TIMM = "timm:"
_CLASSES = 1000
_LEARNING_RATE, _WEIGHT_DECAY = 1e-4, 1e-5  # small enough that training on noise does not diverge
_MIN_SECONDS = 1.0  # of one timing: a step on a GPU is too short to time alone


def main():
    program.require("models")

    from convzoo.benchmarks.timing import time_alternating

    if unknown := [mode for mode in MODE.value if mode not in _MODES]:
        raise ConfigError(f"--mode={unknown[0]} is unknown; use train, inference or both")
    if len(set(MODELS.value)) < len(MODELS.value):
        raise ConfigError(f"--models={','.join(MODELS.value)} names a network twice")
    devices = program.connect()
    _check_models(MODELS.value, devices)
    if CLOCK.value == "cpu" and devices.kind != "cpu":
        raise ConfigError(f"--clock=cpu does not measure a {devices.kind}; use --clock=wall or --devices=cpu")
    result = report.start(
        "benchmarks/models.py",
        devices=f"{devices.num_replicas} x {devices.kind}",
        **{flag.name: flag.value for flag in (BATCH_SIZE, IMAGE_SIZE, PRECISION, OPTIMIZER, CLOCK)},
        rounds=REPEATS.value,
        results=[],
    )
    tables = []
    for mode in MODE.value:
        calls, steps = {}, {}
        # The processes start first, so that a network that timm does not have is noticed at once.
        processes = {
            name: _timm_step(name.removeprefix(_TIMM), mode) for name in MODELS.value if name.startswith(_TIMM)
        }
        for process in processes.values():
            result["versions"] |= process.versions
        for name in MODELS.value:
            steps[name], calls[name] = _repeat(processes.get(name) or _step(name, mode, devices))
        seconds = time_alternating(calls, REPEATS.value, functools.partial(_read_clock, processes.values()))
        results = _results(mode, seconds, steps)
        result["results"] += results
        tables.append(_table(results, mode))
        print(f"\n{tables[-1]}", flush=True)
    report.finish(
        result,
        tables,
        f"Batch {BATCH_SIZE.value}, {IMAGE_SIZE.value} x {IMAGE_SIZE.value}, {PRECISION.value}, {OPTIMIZER.value}",
        f"{result['devices']}, {REPEATS.value} rounds, {'elapsed' if CLOCK.value == 'wall' else 'CPU'} seconds",
    )


def _check_models(names, devices):
    """Raises an error for a network that cannot be built, before another one is timed."""
    from convzoo import models

    for name in names:
        if not name.startswith(_TIMM):
            models.info(name)
        elif devices.kind != "cpu" or devices.num_replicas > 1 or PRECISION.value != "float32":
            raise ConfigError(f"{name} is timed only on one CPU in float32; remove it or use --devices=cpu")


def _step(name, mode, devices):
    """Returns a function of one step of the network `name`, which waits for the result."""
    import keras
    import tensorflow as tf

    from convzoo import models
    from convzoo.configs import base
    from convzoo.tasks import get_task
    from convzoo.training.batch_norm import fuse_batch_norm
    from convzoo.training.optimizers import make_optimizer
    from convzoo.training.state import TrainState
    from convzoo.training.train_step import train_step

    if BATCH_SIZE.value % devices.num_replicas:
        raise ConfigError(f"--batch_size={BATCH_SIZE.value} is not divisible by {devices.num_replicas} replicas")
    size, share = IMAGE_SIZE.value, BATCH_SIZE.value // devices.num_replicas
    strategy, previous_policy = devices.strategy, keras.config.dtype_policy()
    config = base.get_config()
    config.optimizer.name = OPTIMIZER.value
    keras.config.set_dtype_policy(PRECISION.value)
    try:
        with strategy.scope():
            model = models.create_model(name, _CLASSES, (size, size, 3))
            if mode == "train":
                if devices.kind != "tpu" and devices.num_replicas == 1:
                    fuse_batch_norm(model)
                optimizer = make_optimizer(config, _LEARNING_RATE)
                optimizer.build(model.trainable_weights)
    finally:
        keras.config.set_dtype_policy(previous_policy)

    def run(batch):
        if mode == "inference":
            return tf.reduce_sum(model(batch["image"], training=False))
        settings = {"batch_size": BATCH_SIZE.value, "num_replicas": devices.num_replicas}
        sums = train_step(
            TrainState(model, optimizer), batch, task=get_task(config), weight_decay=_WEIGHT_DECAY, **settings
        )
        return sums["loss"]

    # The batch is an argument, because TensorFlow folds operations on constants.
    compiled = tf.function(
        lambda batch: strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(run, args=(batch,)), axis=None)
    )
    batch = {
        "image": tf.random.stateless_normal((share, size, size, 3), (0, 0)),
        "label": tf.range(share, dtype=tf.int32) % _CLASSES,
    }
    return lambda: float(compiled(batch))


def _timm_step(name, mode):
    return TimmProcess(
        name,
        mode,
        batch_size=BATCH_SIZE.value,
        image_size=IMAGE_SIZE.value,
        optimizer=OPTIMIZER.value,
        learning_rate=_LEARNING_RATE,
        weight_decay=_WEIGHT_DECAY,
        num_threads=report.num_cores(),
    )


def _read_clock(processes):
    if CLOCK.value == "wall":
        return time.perf_counter()
    return time.process_time() + sum(process.cpu_seconds() for process in processes)


def _repeat(step):
    """Returns the number of steps of one timing, and a function that makes them."""
    for _ in range(2):  # the first call compiles, and the second can still be slow
        step()
    start = time.perf_counter()
    step()
    number = math.ceil(_MIN_SECONDS / (time.perf_counter() - start))
    return number, lambda: [step() for _ in range(number)]


def _results(mode, seconds, steps):
    rates = {name: [BATCH_SIZE.value * steps[name] / value for value in values] for name, values in seconds.items()}
    results = []
    for name, values in rates.items():
        ratios = [rate / first for rate, first in zip(values, rates[MODELS.value[0]], strict=True)]
        lower, median, upper = report.quartiles(ratios)
        results.append(
            {
                "model": name,
                "mode": mode,
                "images_per_second": report.quartiles(values)[1],
                "ratio": median,
                "ratio_quartiles": [lower, upper],
                "rates": values,
            }
        )
    return results


def _table(results, mode):
    return report.table(
        [
            {
                "network": result["model"],
                f"{mode}, images/s": f"{result['images_per_second']:.1f}",
                f"ratio to {MODELS.value[0]}": f"{result['ratio']:.2f}",
                "quartiles": "{:.2f} to {:.2f}".format(*result["ratio_quartiles"]),
            }
            for result in results
        ]
    )


if __name__ == "__main__":
    program.run(main)
