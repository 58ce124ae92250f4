"""Converts a trained network to CondConv and trains on: does it gain over the static network with the same epochs?

    apt-get install dataset-fashion-mnist  # Debian; or name a folder with the four idx files in --source
    python benchmarks/conversion.py --records=conversion.jsonl --markers=docs/studies.md

For each seed, MobileNetV1 with a quarter of its channels is trained on 32x32 images. Three networks then train for
further epochs, on the same images in the same order with the same learning rates: the network itself, and the network
converted by `convzoo.models.convert` to 4 experts in its last eight blocks and its classifier, with copies that are
equal (noise 0) and copies that noise tells apart (noise 0.1). The table has the accuracy on the test split. Every
result is appended to --records at once, and the same command continues with the remaining ones.
"""

import statistics

from absl import flags

from convzoo.benchmarks import records, report
from convzoo.cli import markdown, program

SOURCE = flags.DEFINE_string("source", "idx:/usr/share/datasets/fashion-mnist", "Data source with images of one size.")
EXAMPLES = flags.DEFINE_integer("examples", 20000, "Training images.", lower_bound=1)
EPOCHS = flags.DEFINE_integer("epochs", 4, "Epochs before the conversion.", lower_bound=1)
FURTHER_EPOCHS = flags.DEFINE_integer("further_epochs", 4, "Epochs after it.", lower_bound=1)
SEEDS = flags.DEFINE_integer("seeds", 3, "Trainings of each network.", lower_bound=1)
LEARNING_RATE = flags.DEFINE_float("learning_rate", 0.05, "Peak learning rate, before and after.", lower_bound=0)
RECORDS = flags.DEFINE_string("records", None, "JSON-lines file of the results.")
MARKERS = flags.DEFINE_string(
    "markers", None, "Markdown file; the table is written between <!-- conversion --> and its end marker."
)
_KIND, _MARKER, _BATCH = "conversion", "conversion", 128
_NETWORK = {"name": "mobilenet_v1_x0_25", "stem_strides": 1, "dropout_rate": 0.1}
_EXPERTS, _WHERE = 4, ["block[5-9]_*conv", "block1?_*conv", "head_dense"]
_BEFORE = "before the conversion"
_NOISE = {"CondConv, noise 0": 0.0, "CondConv, noise 0.1": 0.1}
_ROWS = (_BEFORE, "static", *_NOISE)


def main():
    from convzoo import data

    if RECORDS.value:
        program.check_folder(RECORDS.value, "records")
    if MARKERS.value:
        markdown.check_markers(MARKERS.value, _MARKER)
    source = data.open_source(SOURCE.value)
    settings = {
        "source": SOURCE.value,
        "examples": min(EXAMPLES.value, source.num_examples("train")),
        "epochs": EPOCHS.value,
        "further_epochs": FURTHER_EPOCHS.value,
        "learning_rate": LEARNING_RATE.value,
    }
    start = report.start("benchmarks/conversion.py", **settings)
    found = records.read(RECORDS.value, _KIND, **settings) if RECORDS.value else {}
    names = {(row, seed): f"{row}, seed {seed}" for seed in range(SEEDS.value) for row in _ROWS}
    if any(name not in found for name in names.values()):
        train, test = _arrays(source, f"train[:{settings['examples']}]"), _arrays(source, "test")
        for seed in range(SEEDS.value):
            _train_seed(seed, source.num_classes, train, test, names, found, settings)
    table = _table({key: found[name] for key, name in names.items()})
    print(table)
    caption = _caption(start, settings)
    print(f"\n{caption}")
    if MARKERS.value:
        markdown.write_between(MARKERS.value, _MARKER, f"\n{table}\n\n{caption}\n\n")


def _arrays(source, split):
    """Returns float32 images [n, 32, 32, 3] with values in -1 to 1, and labels [n]."""
    import numpy as np
    import tensorflow as tf

    def read(example):
        image = example["image"]
        image = tf.io.decode_image(image, expand_animations=False) if image.dtype == tf.string else image
        image = tf.image.resize(image, (32, 32)) / 127.5 - 1.0
        return tf.broadcast_to(image, (32, 32, 3)), example["label"]

    images, labels = zip(*source.dataset(split).map(read).as_numpy_iterator(), strict=True)
    return np.stack(images), np.stack(labels)


def _train_seed(seed, num_classes, train, test, names, found, settings):
    """Trains all networks of a seed that have no record yet."""
    import keras

    from convzoo import models

    missing = [row for row in _ROWS if names[row, seed] not in found]
    if not missing:
        return
    keras.utils.set_random_seed(seed)
    model = models.create_model(num_classes=num_classes, input_shape=(32, 32, 3), **_NETWORK)
    accuracy = _fit(model, train, test, EPOCHS.value, seed)
    for row in missing:
        network = model
        if row == "static":
            network = keras.models.clone_model(model)
            network.set_weights(model.get_weights())
        elif row in _NOISE:
            network = models.convert(model, models.CondConv(num_experts=_EXPERTS), _WHERE, _NOISE[row], seed)
        if row != _BEFORE:
            accuracy = _fit(network, train, test, FURTHER_EPOCHS.value, seed + 1000)
        name, size = names[row, seed], models.count(network)
        found[name] = {**settings, "accuracy": accuracy, "parameters": size.params, "madds": size.madds}
        print(f"{name}: {100 * accuracy:.2f} %", flush=True)
        if RECORDS.value:
            records.append(RECORDS.value, _KIND, name, found[name])


def _fit(model, train, test, epochs, seed):
    """Trains a network and returns its accuracy on `test`; the order of the images depends on `seed` alone."""
    import keras

    keras.utils.set_random_seed(seed)
    steps = epochs * -(-len(train[0]) // _BATCH)
    model.compile(
        keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(LEARNING_RATE.value, steps), 0.9, nesterov=True),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(*train, batch_size=_BATCH, epochs=epochs, verbose=0)
    return model.evaluate(*test, batch_size=500, verbose=0)[1]


def _table(results):
    """Returns the Markdown table of {(row, seed): record}."""
    rows = []
    for row in _ROWS:
        values = [100 * results[row, seed]["accuracy"] for seed in range(SEEDS.value)]
        gains = [
            100 * (results[row, seed]["accuracy"] - results["static", seed]["accuracy"]) for seed in range(SEEDS.value)
        ]
        record = results[row, 0]
        rows.append(
            {
                "network": row,
                "parameters": f"{record['parameters']:,}",
                "multiply-adds": markdown.quantity(record["madds"]),
                "top-1 %": _mean(values),
                "minus static": "" if row in (_BEFORE, "static") else _mean(gains, "+"),
            }
        )
    return report.table(rows)


def _mean(values, sign=""):
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{sign}.2f}{deviation}"


def _caption(start, settings):
    versions = ", ".join(f"{name} {version}" for name, version in start["versions"].items())
    return (
        f"Mean ± sample standard deviation over {SEEDS.value} seeds; {settings['examples']:,} training images, "
        f"{settings['epochs']} epochs before and {settings['further_epochs']} after the conversion; {versions}; "
        f"{start['time'][:10]}. `{start['command']}`"
    )


if __name__ == "__main__":
    program.run(main)
