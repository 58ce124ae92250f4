"""Kills a training run with SIGKILL repeatedly, and compares its result with that of an uninterrupted run.

    python benchmarks/chaos_resume.py --workdir=runs/chaos --kills=20

Both runs have the same config with config.deterministic=True and use one CPU device. After each kill the same command
resumes the run. Weights, optimizer, moving average, random states and all metrics except times must be bit-identical at
the end. Exit status 0 if they are, 1 if not.
"""

import pathlib
import random
import shutil
import subprocess
import sys
import time

from absl import flags

from convzoo.cli import program
from convzoo.errors import ConfigError

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = flags.DEFINE_string("config", "configs/quickstart.py", "The experiment, or FILE:VARIANT.")
WORKDIR = flags.DEFINE_string("workdir", None, "Local folder for both runs; it must not exist.")
KILLS = flags.DEFINE_integer("kills", 20, "Number of kills.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "Seed of the times of the kills.")
OVERRIDE = flags.DEFINE_multi_string("override", [], "Override such as config.epochs=2; repeatable.")


def main():
    program.require("workdir")

    folder = pathlib.Path(WORKDIR.value)
    if folder.exists():
        raise ConfigError(f"--workdir={folder} exists; give a new folder, or remove it")
    straight, killed = folder / "straight", folder / "killed"
    begin = time.perf_counter()
    if code := _start(straight).wait():
        raise ConfigError(f"the training that was left alone failed with status {code}; see what it said above")
    seconds = time.perf_counter() - begin
    print(f"left alone: {_steps_made(straight)} steps in {seconds:.0f} s", flush=True)
    chance, kills, repeated = random.Random(SEED.value), 0, 0
    while kills < KILLS.value:
        before = _newest_step(killed)
        process = _start(killed)
        try:
            # While it starts, trains, saves or ends; late enough that some get to the end.
            process.wait(chance.uniform(0.0, 1.5 * seconds))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
        else:
            # What is left of the kills hits another training.
            _compare(straight, killed)
            shutil.rmtree(killed)
            continue
        made = _steps_made(killed)
        again = made - _newest_step(killed)
        repeated += again
        print(f"kill {kills}/{KILLS.value}: from step {before} to {made}, {again} to be made again", flush=True)
    if code := _start(killed).wait():
        raise ConfigError(f"the killed training failed with status {code} when it was left to end")
    _compare(straight, killed)
    print(f"{KILLS.value} kills: bit-identical, nothing lost, {repeated} steps made again")


def _start(workdir):
    """train.py in the background; only what it complains of is shown."""
    command = [
        sys.executable, str(ROOT / "train.py"), f"--config={CONFIG.value}", f"--workdir={workdir}", "--devices=cpu",
        *(f"--{field}" for field in OVERRIDE.value), "--config.deterministic=True",
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def _steps_made(workdir):
    from convzoo.training.metrics import read_metrics

    return max((line["step"] for line in read_metrics(str(workdir))), default=0)


def _newest_step(workdir):
    from convzoo.training import checkpoints

    path = checkpoints.newest(str(workdir))
    return int(path.rpartition("-")[2]) if path else 0


def _compare(one, other):
    """Exits with status 1 unless both runs ended alike."""
    import numpy as np
    import tensorflow as tf

    from convzoo.training import checkpoints
    from convzoo.training.metrics import read_metrics, without_times

    readers = [tf.train.load_checkpoint(checkpoints.newest(str(folder))) for folder in (one, other)]
    names = [name for name in readers[0].get_variable_to_shape_map() if name.startswith("variables/")]
    differing = [
        name for name in names if not np.array_equal(*(reader.get_tensor(name) for reader in readers), equal_nan=True)
    ]
    metrics = [[without_times(line) for line in read_metrics(str(folder))] for folder in (one, other)]
    if differing or metrics[0] != metrics[1]:
        print(
            f"chaos_resume.py: {len(differing)} of {len(names)} variables differ ({', '.join(differing[:3])}), metrics "
            f"{'differ' if metrics[0] != metrics[1] else 'agree'}",
            file=sys.stderr,
        )
        sys.exit(1)
    print(f"the same to the bit: {len(names)} variables, {len(metrics[0])} lines of metrics", flush=True)


if __name__ == "__main__":
    program.run(main)
