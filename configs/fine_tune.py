"""Fine-tuning on 200 images, from a network that was trained on another data set.

    python train.py --config=configs/quickstart.py --workdir=runs/quickstart
    python train.py --config=configs/fine_tune.py:fashion_mnist --workdir=runs/fine_tune
    python train.py --config=configs/fine_tune.py:fashion_mnist_from_scratch --workdir=runs/from_scratch
    python eval.py --workdir=runs/fine_tune --split=test

The variant fashion_mnist starts from the quickstart's run on digits; digits starts from a run of
configs/fashion_mnist.py. `--config.init.weights=FOLDER` selects another run. Both initialize a new classifier, freeze
the stem, and train the rest of the backbone at a third of the learning rate, which is the rate of the first training.
The suffix _from_scratch trains the same network on the same images for as long, from random initialization, at that
rate.

Measured on two CPU cores under other load (TensorFlow 2.21, float32): half a minute to two minutes per run. Top-1 on
the test split in per cent, last checkpoint, seeds 0, 1 and 2:

| trained on | initialized from | fine-tuned | from scratch |
|---|---|---|---|
| fashion_mnist | the quickstart's run (99.2 on digits) | 68.4, 68.7, 68.8 | 53.6, 59.9, 60.8 |
| digits | a run on 1,000 images of Fashion-MNIST (80.2 there) | 82.5, 81.9, 81.3 | 77.4, 70.5, 79.1 |

The run on 1,000 images used `:fashion_mnist_from_scratch` and `--config.data.train_split=train[:1000]`. From scratch,
the higher rate of 0.3 was worse (seed 0, evaluation split: 44.4 instead of 52.0, and 57.9 instead of 79.0).
Fine-tuning does not always help: with 1,000 images of Fashion-MNIST, the backbone at 0.03 and the classifier at 0.1,
it reached 77.3 and training from scratch 80.2.
"""

from convzoo.configs import quickstart
from convzoo.configs.variants import variants

# Variant: initial weights, source, split to train on, split to evaluate on.
_VARIANTS = {
    "fashion_mnist": ("runs/quickstart", "idx:/usr/share/datasets/fashion-mnist", "train[:200]", "train[55000:57000]"),
    "digits": ("runs/fashion_mnist", "digits", "train[:200]", "train[50%:]"),
}
_FROM_SCRATCH = "_from_scratch"


@variants(*(f"{name}{suffix}" for name in _VARIANTS for suffix in ("", _FROM_SCRATCH)), default="fashion_mnist")
def get_config(variant):
    """Returns the quickstart on 200 images of another data set, fine-tuned or from scratch."""
    name = variant.removesuffix(_FROM_SCRATCH)
    config = quickstart.get_config()
    weights, config.data.source, config.data.train_split, config.data.eval_split = _VARIANTS[name]
    config.data.flip = name != "digits"
    config.eval_batch_size = 256
    config.epochs = 20.0
    config.eval_every_epochs = 10.0
    config.checkpoint_every_epochs = 10.0

    if variant == name:
        config.init.weights = weights
        config.init.new_classifier = True  # both data sets have ten classes, but different ones
        config.init.freeze = ("stem_*",)
        config.init.backbone_lr_multiplier = 1 / 3
        config.optimizer.learning_rate = 0.3
    return config
