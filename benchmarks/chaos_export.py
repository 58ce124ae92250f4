"""Kills exports and imports with SIGKILL at random moments, and checks what they leave.

    python benchmarks/chaos_export.py --workdir=runs/chaos_export --kills=50

After each kill there must be a whole SavedModel, or file of weights, that loads and answers as before; no file of
somebody else may have changed; and after the last export and import, which are left to end, nothing of the killed ones
may remain. Exit status 0 if so, 1 if not.
"""

import os
import pathlib
import random
import subprocess
import sys
import time

from absl import flags

from convzoo.cli import program
from convzoo.errors import ConfigError

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORKDIR = flags.DEFINE_string("workdir", None, "Local folder for the run and its exports; it must not exist.")
KILLS = flags.DEFINE_integer("kills", 50, "Number of kills, half of them of exports.", lower_bound=2)
SEED = flags.DEFINE_integer("seed", 0, "Seed of the times of the kills.")

_NETWORK, _IMAGE_SIZE = "mobilenet_v2_x1_0", 96
# What a user may have beside the outputs, under names that programs like to use for themselves.
_FOREIGN = (
    "saved_model.old/notes.txt",
    "saved_model.unfinished/notes.txt",
    ".saved_model.part",
    "net.weights.h5.part",
    ".net.weights.h5.elsewhere.0.1.0.part.weights.h5",
)


def main():
    program.require("workdir")
    import keras

    folder = pathlib.Path(WORKDIR.value)
    if folder.exists():
        raise ConfigError(f"--workdir={folder} exists; give a new folder, or remove it")
    train = ("train.py", "--config=quickstart", f"--workdir={folder}", "--config.epochs=1", "--devices=cpu")
    if code := _start(*train, "--config.schedule.warmup_epochs=0").wait():
        raise ConfigError(f"the training failed with status {code}; see what it said above")
    for name in _FOREIGN:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{name}, of the user")
    source = folder / "source.h5"
    keras.applications.MobileNetV2(weights=None, classes=10, input_shape=(_IMAGE_SIZE, _IMAGE_SIZE, 3)).save(source)
    target = folder / "net.weights.h5"
    chance = random.Random(SEED.value)
    export = ("scripts/export.py", f"--workdir={folder}")
    _kill_repeatedly("export", export, KILLS.value // 2, chance, lambda: _answer(folder / "saved_model"), folder)
    convert = (
        *("scripts/import_weights.py", "--source=keras", f"--checkpoint={source}"),
        *(f"--model={_NETWORK}", f"--output={target}"),
    )
    _kill_repeatedly("import", convert, KILLS.value - KILLS.value // 2, chance, lambda: _checksum(target), folder)
    print(f"{KILLS.value} kills: always a whole output, no file of the user touched, nothing left behind")


def _kill_repeatedly(name, command, kills, chance, read, folder):
    """Runs a program to its end, kills it repeatedly, and runs it to its end again; checks the output each time."""
    begin = time.perf_counter()
    _finish(command)
    seconds, expected = time.perf_counter() - begin, read()
    names = {entry.name for entry in folder.iterdir()}
    written = 0
    for kill in range(1, kills + 1):
        process = _start(*command)
        time.sleep(chance.uniform(0.3, 1.1) * seconds)  # importing TensorFlow takes the first part
        ended = process.poll() is not None
        process.kill()
        process.wait()
        unfinished = {entry.name for entry in folder.iterdir()} - names
        written += bool(unfinished)
        if read() != expected:
            _fail(f"after kill {kill} of {name} the output answers differently")
        _check_foreign(folder)
        state = "had ended" if ended else f"left {', '.join(unfinished) or 'nothing'}"
        print(f"{name}, kill {kill}/{kills}: {state}; the output is whole", flush=True)
    _finish(command)
    if left := {entry.name for entry in folder.iterdir()} - names:
        _fail(f"{name} left {', '.join(sorted(left))}")
    print(f"{name}: {written} of {kills} kills hit it while it wrote", flush=True)


def _start(*command):
    """A program in the background; only what it complains of is shown."""
    return subprocess.Popen([sys.executable, str(ROOT / command[0]), *command[1:]], stdout=subprocess.DEVNULL)


def _finish(command):
    if code := _start(*command).wait():
        raise ConfigError(f"{command[0]} failed with status {code} when it was left to end")


def _answer(folder):
    """Returns what the SavedModel answers to one image, as bytes. Raises an error if it is not whole."""
    import tensorflow as tf

    images = tf.cast(tf.reshape(tf.range(32 * 32 * 3) % 256, [1, 32, 32, 3]), tf.uint8)
    return tf.saved_model.load(str(folder)).signatures["images"](images=images)["logits"].numpy().tobytes()


def _checksum(path):
    """Returns the checksum in a file of weights, which loads into its network. Raises an error if it is not whole."""
    from convzoo import models

    models.create_model(_NETWORK, 10, (_IMAGE_SIZE, _IMAGE_SIZE, 3), weights=path)
    return models.read_metadata(os.fspath(path))["checksum"]


def _check_foreign(folder):
    for name in _FOREIGN:
        path = folder / name
        if not path.exists() or path.read_text() != f"{name}, of the user":
            _fail(f"{path} of the user was changed")


def _fail(message):
    print(f"chaos_export.py: {message}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    program.run(main)
