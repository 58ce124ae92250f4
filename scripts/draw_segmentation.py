r"""Draws what a segmentation network makes of pictures: each picture, the true classes of its pixels, and its own.

    python scripts/draw_segmentation.py --workdir=runs/shapes --checkpoint=best --split=test --output=shapes.png

One colour is one class; a legend names them. Pixels without a class are white. Pictures are shown as the network gets
them.
"""

from absl import flags

from convzoo.training import program

program.define_checkpoint()
SPLIT = flags.DEFINE_string("split", None, "As test or train[:10%]; default: the experiment's evaluation split.")
COUNT = flags.DEFINE_integer("count", 4, "Pictures of the split, its first.", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", "segmentation.png", "The PNG file to write.")
program.define_devices()


def main():
    devices = program.connect()
    import tensorflow as tf

    from convzoo.configs import base
    from convzoo.training import assessment, experiment
    from convzoo.training.config import ConfigError
    from convzoo.training.drawing import draw, first_pictures, write

    config = program.experiment(base.get_config())
    if config.task != "segmentation":
        raise ConfigError(
            f"{flags.FLAGS.workdir or config.model.name} classifies whole pictures; scripts/classify.py does"
        )
    checkpoint = assessment.find_checkpoint(flags.FLAGS.workdir, flags.FLAGS.checkpoint)
    source = experiment.open_source(config)
    with devices.strategy.scope():
        model = experiment.build_model(config, source.num_classes)
        assessment.restore_weights(checkpoint, model, flags.FLAGS.weights)
    inputs = experiment.eval_settings(config)
    split = SPLIT.value or config.data.eval_split
    pictures, truth = first_pictures(source, split, COUNT.value, **inputs)
    answers = tf.argmax(tf.function(model)(pictures, training=False), -1).numpy()
    drawing = draw(
        pictures,
        {"truth": truth, "network": answers},
        {"truth": source.num_classes, "network": source.num_classes},
        mean=inputs["mean"],
        std=inputs["std"],
        names=source.class_names,
    )
    write(OUTPUT.value, drawing)
    print(f"{len(pictures)} pictures of {split}, {checkpoint}: written to {OUTPUT.value}")


if __name__ == "__main__":
    program.run(main)
