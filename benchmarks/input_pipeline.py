"""Measures the input pipeline stage by stage, and the number of host cores that feed a TPU.

    python benchmarks/input_pipeline.py                                      # all cores; takes minutes
    python benchmarks/input_pipeline.py --cores=8 --images_per_second=20000
    python benchmarks/input_pipeline.py --folder=images                     # writes the images there, or reuses them

Writes JPEGs of 500 x 375 pixels and about 110 kB, the average of ImageNet, into TFRecords in ImageNet's layout. A few
hundred images represent all, and are in memory after the first round: the speed of a disk or a bucket is not measured.
All pipelines end in batches of 224 x 224 pixels:

- "read": the shuffled source only.
- "bare": the minimum, with TensorFlow's operations on the output of "read": decode the part of the JPEG that an
  Inception crop needs, resize it with bicubic interpolation, batch. No flip and no normalization. "bare, unshuffled" is
  the same on the files in their order.
- The stages of `data.train_dataset`, each added to the previous ones.
- Two recipes, compared with "bare": the plain one (crop, flip), and that of configs/efficientnet_condconv_imagenet.py
  with AutoAugment and mixup.

Each round measures all pipelines once, every second round in reverse order. The table has medians over the rounds, and
medians of the ratios within a round with the lowest and highest. "images/s per core" uses elapsed time, which requires
an idle machine. "by CPU time" uses the CPU time of all threads of this process, which other programs affect less. The
process is bound to its cores if the system allows it.

A pipeline works ahead of the batch that is read, so that neither the batches read nor the images begun equal the work
done between two times. An image counts half when its decoding begins and half when its batch is read. The clock starts
after a warm-up with a quarter of the images, when the buffers are full. The shuffle buffer is small, because filling a
large one would dominate; its size does not affect the cost per image.
"""

import dataclasses
import datetime
import glob
import json
import math
import os
import platform
import resource
import shlex
import statistics
import sys
import tempfile
import time

import tabulate
from absl import flags

from convzoo.cli import program
from convzoo.errors import ConfigError, first_line

FOLDER = flags.DEFINE_string("folder", None, "Where the images are made, unless they are there; default: for once.")
IMAGES = flags.DEFINE_integer("images", 512, "Different images to make.", lower_bound=4)
CORES = flags.DEFINE_integer("cores", None, "Cores to use; default: all that this process may.", lower_bound=1)
EXAMPLES = flags.DEFINE_integer("examples", 500, "Images of each timing, for each core.", lower_bound=1)
ROUNDS = flags.DEFINE_integer("rounds", 9, "Rounds.", lower_bound=1)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Images of a batch.", lower_bound=2)
RATE = flags.DEFINE_float("images_per_second", 10_000, "What the accelerators take.", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", None, "Also writes OUTPUT.md and OUTPUT.json.")

CONFIG = os.path.join(os.path.dirname(__file__), "..", "configs", "efficientnet_condconv_imagenet.py:b0_8e")
HEIGHT, WIDTH, QUALITY = 375, 500, 95
# Standard deviations of the noise, in gray levels, by the number of its cells from top to bottom: smooth structure, and
# as much grain as makes some 110 kB.
NOISE = {3: 60.0, 12: 25.0, 48: 12.0, HEIGHT: 10.0}
CLASSES = 1000
# Names as ImageNet has them, of only a few files: the images are read in an order as long as it takes.
NAMES, FILES = 1024, 4
JITTER = (0.4, 0.4, 0.4)  # of ShuffleNetV2's recipe

UNSHUFFLED, READ, BARE, PLAIN, FULL = "unshuffled", "read", "bare", "+ flip", "CondConv"
CROPPED = "read, decode, crop, resize, normalize"
TARGETS = {PLAIN: 0.95, FULL: 0.6}
TITLES = {
    UNSHUFFLED: "bare, unshuffled",
    BARE: "bare: read, decode, crop, resize",
    PLAIN: "+ flip (the plain recipe)",
    FULL: "CondConv's recipe (without jitter)",
}
READ_TIMES = 8  # as many records as of other stages: reading alone is over before it can be timed


def main():
    from convzoo import data

    cores = _bind()
    with tempfile.TemporaryDirectory() as temporary:
        folder = FOLDER.value or os.path.join(temporary, "images")
        if not glob.glob(os.path.join(glob.escape(folder), "train-*-of-*")):
            make_images(folder, IMAGES.value)
        source = _Counted(data.open_source(f"tfrecord:{folder}", data_dir=temporary))
        report = _about(cores, folder)
        pipelines = _pipelines(source, folder, cores)
        rounds = []
        for number in range(ROUNDS.value):
            order = reversed(pipelines) if number % 2 else pipelines
            rounds.append({name: _measure(pipelines[name], source.begun, name, cores) for name in order})
    report["load_at_end"] = os.getloadavg()[0]
    report["rounds"] = rounds
    text = f"{_stages(rounds, pipelines)}\n\n{_recipes(rounds)}\n\n{_caption(report)}\n"
    print(f"\n{text}", end="")
    if OUTPUT.value:
        program.write_output(f"{OUTPUT.value}.md", text)
        program.write_output(f"{OUTPUT.value}.json", json.dumps(report, indent=2) + "\n")


def _bind():
    """Binds this process to as many cores as --cores says, before TensorFlow starts its threads; how many they are."""

    can_bind = hasattr(os, "sched_setaffinity")
    allowed = sorted(os.sched_getaffinity(0)) if can_bind else range(os.cpu_count())
    cores = CORES.value or len(allowed)
    if cores > len(allowed):
        raise ConfigError(f"--cores={cores}, and this process may use {len(allowed)}; give {len(allowed)} or less")
    if can_bind:
        os.sched_setaffinity(0, allowed[:cores])
    return cores


def make_images(folder, number):
    """Makes TFRecords of `number` different images, always the same ones, which `tfrecord:FOLDER` reads.

    The folder, which must be empty or not there, is named last: a half-written one is never found under its name.
    """
    import tensorflow as tf

    unfinished = f"{folder.rstrip('/')}.unfinished"
    try:
        os.makedirs(unfinished, exist_ok=True)
        for file in range(FILES):
            with tf.io.TFRecordWriter(os.path.join(unfinished, f"images-{file}")) as writer:
                for index in range(file, number, FILES):
                    writer.write(_record(index))
        for index in range(NAMES):
            link = os.path.join(unfinished, f"train-{index:05d}-of-{NAMES:05d}")
            if not os.path.lexists(link):
                os.symlink(f"images-{index % FILES}", link)
        os.rename(unfinished, folder)
    except (OSError, tf.errors.OpError) as error:
        raise ConfigError(f"--folder={folder} cannot be filled ({first_line(error)}); give a new one") from error


def _record(index):
    """Image number `index` as ImageNet's records have it."""
    import numpy as np
    import tensorflow as tf

    chance = np.random.default_rng(index)
    image = np.full((HEIGHT, WIDTH, 3), 128.0, np.float32)
    for cells, deviation in NOISE.items():
        # The finest is grain, the same in all colors: eyes and JPEG know little of the color of details.
        colors = 1 if cells == HEIGHT else 3
        noise = chance.normal(0.0, deviation, (cells, cells * WIDTH // HEIGHT, colors)).astype(np.float32)
        image += tf.image.resize(noise, (HEIGHT, WIDTH), "bicubic")
    encoded = tf.io.encode_jpeg(np.clip(image, 0, 255).astype(np.uint8), quality=QUALITY)
    example = tf.train.Example()
    example.features.feature["image/encoded"].bytes_list.value.append(encoded.numpy())
    example.features.feature["image/class/label"].int64_list.value.append(1 + index % CLASSES)
    return example.SerializeToString()


class _Counted:
    """A source that counts in `begun`, a tf.Variable, the shuffled examples that a pipeline has taken from it."""

    def __init__(self, source):
        import tensorflow as tf

        self._source = source
        self.begun = tf.Variable(0, dtype=tf.int64)

    def __getattr__(self, name):
        return getattr(self._source, name)

    def shuffled(self, *arguments, **settings):
        return counted(self._source.shuffled(*arguments, **settings), self.begun)


def counted(examples, count):
    """The same tf.data.Dataset; `count`, a tf.Variable, is how many elements have been taken from it."""
    import tensorflow as tf

    def one_more(*element):
        with tf.control_dependencies([count.assign_add(1)]):
            return tf.nest.map_structure(tf.identity, element)

    return examples.map(one_more)


def _pipelines(source, folder, cores):
    """dict of name to tf.data.Dataset of batches, in the order of the table."""
    import tensorflow as tf

    from convzoo import data
    from convzoo.data.tfrecord_source import VIRTUAL_SHARDS
    from convzoo.training import experiment

    config = program.read_config(CONFIG)
    settings = experiment.train_settings(config) | {
        "shuffle_buffer": 8 * VIRTUAL_SHARDS,
        "batch_size": BATCH_SIZE.value,
    }
    recipe = settings["augmentation"]
    cropped = dataclasses.replace(recipe, flip=False, auto_augment=False, mixup=None)
    flipped = dataclasses.replace(cropped, flip=True)
    jittered = dataclasses.replace(flipped, color_jitter=JITTER)
    augmented = dataclasses.replace(jittered, auto_augment=True)
    stages = {
        CROPPED: cropped,
        PLAIN: flipped,
        "+ jitter": jittered,
        "+ AutoAugment": augmented,
        "+ mixup": dataclasses.replace(augmented, mixup=recipe.mixup),
        FULL: recipe,
    }
    records = source.shuffled("train", seed=0, first_example=0, shard=(0, 1), shuffle_buffer=settings["shuffle_buffer"])
    bare = {"image_size": settings["image_size"], "area": cropped.crop_area, "aspect": cropped.crop_aspect}
    pipelines = {
        UNSHUFFLED: _bare(_unshuffled(folder, source.begun), **bare),
        READ: records.batch(BATCH_SIZE.value, drop_remainder=True).prefetch(tf.data.AUTOTUNE),
        BARE: _bare(records, **bare),
    }
    for name, augmentation in stages.items():
        pipelines[name] = data.train_dataset(source, "train", **settings | {"augmentation": augmentation})
    options = tf.data.Options()
    options.threading.private_threadpool_size = cores
    return {name: dataset.with_options(options) for name, dataset in pipelines.items()}


def _unshuffled(folder, count):
    """(number, example) of the files as they lie there, over and over, by TensorFlow's own operations."""
    import tensorflow as tf

    def parse(number, record):
        features = tf.io.parse_single_example(
            record,
            {
                "image/encoded": tf.io.FixedLenFeature([], tf.string),
                "image/class/label": tf.io.FixedLenFeature([], tf.int64),
            },
        )
        return number, {"image": features["image/encoded"], "label": features["image/class/label"]}

    paths = sorted(glob.glob(os.path.join(glob.escape(folder), "train-*-of-*")))
    records = counted(tf.data.TFRecordDataset(paths).repeat().enumerate(), count)
    return records.map(parse, num_parallel_calls=tf.data.AUTOTUNE)


def _bare(examples, image_size, area, aspect):
    """Batches of what TensorFlow's own operations make of (number, example), and no more of them than it takes."""
    import tensorflow as tf

    def prepare(number, example):
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(example["image"]),
            bounding_boxes=tf.constant([0.0, 0.0, 1.0, 1.0], shape=[1, 1, 4]),
            seed=tf.stack([tf.constant(0, tf.int64), number]),
            min_object_covered=0.0,
            aspect_ratio_range=aspect,
            area_range=area,
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        box = tf.concat([begin[:2], size[:2]], 0)
        image = tf.image.decode_and_crop_jpeg(example["image"], box, channels=3)
        return tf.image.resize(image, image_size, "bicubic"), example["label"]

    prepared = examples.map(prepare, num_parallel_calls=tf.data.AUTOTUNE)
    return prepared.batch(BATCH_SIZE.value, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def _measure(batches, begun, name, cores):
    """One timing: images per second and core, images per CPU second, and how many were begun over those read."""
    number = math.ceil(EXAMPLES.value * cores / BATCH_SIZE.value) * (READ_TIMES if name == READ else 1)
    iterator = iter(batches)
    for _ in range(math.ceil(number / 4)):
        next(iterator)
    before = _state(begun)
    for _ in range(number):
        next(iterator)
    seconds, cpu_seconds, begun = (after - was for after, was in zip(_state(begun), before, strict=True))
    read = number * BATCH_SIZE.value
    images = (read + begun) / 2
    return {
        "per_core": images / seconds / cores,
        "per_cpu_second": images / cpu_seconds,
        "begun_over_read": begun / read,
    }


def _state(begun):
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), used.ru_utime + used.ru_stime, int(begun)


def _stages(rounds, names):
    rows, previous = [], None
    for name in names:
        # What a stage adds is a difference to the one above it; these are added to none.
        alone = name in (UNSHUFFLED, READ, BARE, CROPPED, FULL)
        added = [
            1e3 / r[name]["per_cpu_second"] - (0 if alone else 1e3 / r[previous]["per_cpu_second"]) for r in rounds
        ]
        rows.append(
            {
                "stage": TITLES.get(name, name),
                "images/s per core": f"{_median(rounds, name, 'per_core'):.0f}",
                "by CPU time": f"{_median(rounds, name, 'per_cpu_second'):.0f}",
                "CPU ms an image": "" if not alone else f"{statistics.median(added):.2f}",
                "added": "" if alone else f"{statistics.median(added):+.2f}",
                "ratio to bare": _ratio(rounds, name, "per_core"),
                "ratio by CPU time": _ratio(rounds, name, "per_cpu_second"),
            }
        )
        previous = name
    return tabulate.tabulate(rows, "keys", "pipe", disable_numparse=True, colalign=("left", *["right"] * 6))


def _recipes(rounds):
    rows = [
        {
            "recipe": title,
            "ratio to bare": _ratio(rounds, name, "per_core"),
            "ratio by CPU time": _ratio(rounds, name, "per_cpu_second"),
            "goal": f"{TARGETS[name]:.2f}",
            f"cores for {RATE.value:,.0f} images/s": math.ceil(RATE.value / _median(rounds, name, "per_core")),
            "cores by CPU time": math.ceil(RATE.value / _median(rounds, name, "per_cpu_second")),
        }
        for name, title in ((PLAIN, "plain: crop, flip"), (FULL, "CondConv's: crop, flip, AutoAugment, mixup"))
    ]
    return tabulate.tabulate(rows, "keys", "pipe", disable_numparse=True, colalign=("left", *["right"] * 5))


def _median(rounds, name, figure):
    return statistics.median(r[name][figure] for r in rounds)


def _ratio(rounds, name, figure):
    ratios = [r[name][figure] / r[BARE][figure] for r in rounds]
    return f"{statistics.median(ratios):.2f} [{min(ratios):.2f} to {max(ratios):.2f}]"


def _about(cores, folder):
    import tensorflow as tf

    import convzoo

    first = sorted(glob.glob(os.path.join(glob.escape(folder), "train-*-of-*")))[0]
    lengths = [len(record) for record in tf.data.TFRecordDataset(first).as_numpy_iterator()]
    return {
        "command": shlex.join(["python", "benchmarks/input_pipeline.py", *sys.argv[1:]]),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {
            "python": platform.python_version(), "convzoo": convzoo.__version__, "tensorflow": tf.__version__
        },
        "cores": cores,
        "processor": platform.machine(),
        "bytes_of_a_record": statistics.mean(lengths),
        "batch_size": BATCH_SIZE.value,
        "examples_per_core": EXAMPLES.value,
        "load_at_start": os.getloadavg()[0],
    }  # fmt: skip


def _caption(report):
    versions = ", ".join(f"{name} {value}" for name, value in report["versions"].items())
    gap = max(abs(timing["begun_over_read"] - 1) for r in report["rounds"] for timing in r.values())
    kilobytes = report["bytes_of_a_record"] / 1000
    return (
        f"{report['cores']} {report['processor']} cores, batch {report['batch_size']}, {len(report['rounds'])} rounds, "
        f"{report['examples_per_core']} images a core, records of {kilobytes:.0f} kB; "
        f"images begun and images read differed by {gap:.1%} at most; "
        f"load {report['load_at_start']:.1f} before and {report['load_at_end']:.1f} after; "
        f"{versions}. `{report['command']}`"
    )


if __name__ == "__main__":
    program.run(main)
