"""Fine-tuning: the network that one data set taught learns another from 200 pictures.

    python train.py --config=configs/quickstart.py --workdir=runs/quickstart
    python train.py --config=configs/fine_tune.py:fashion_mnist --workdir=runs/fine_tune
    python train.py --config=configs/fine_tune.py:fashion_mnist_from_scratch --workdir=runs/from_scratch
    python eval.py --workdir=runs/fine_tune --split=test

The variant fashion_mnist starts from the quickstart's run on the digits, and digits from a run on Fashion-MNIST
(configs/fashion_mnist.py); `--config.init.weights=FOLDER` names another one. Both start a new classifier, keep the stem
as it is, and train the rest at a third of the rate, which is the rate that it was trained with before. With
_from_scratch behind the name the same network learns from the same pictures as long, from chance and at that rate.

Seen on two CPU cores that did other work besides (TensorFlow 2.21, float32): half a minute to two minutes a run. Top-1
of the test split in per cent, last checkpoint, seeds 0, 1 and 2:

| learns | starts from | fine-tuned | from scratch |
|---|---|---|---|
| fashion_mnist | the quickstart's run (99.2 on the digits) | 68.4, 68.7, 68.8 | 53.6, 59.9, 60.8 |
| digits | a run on 1,000 pictures of Fashion-MNIST (80.2 there) | 82.5, 81.9, 81.3 | 77.4, 70.5, 79.1 |

The second run was made with `:fashion_mnist_from_scratch` and `--config.data.train_split=train[:1000]`. From scratch
the higher rate, 0.3, was worse (seed 0, evaluation split: 44.4 instead of 52.0, and 57.9 instead of 79.0). It does not
always help: with 1,000 pictures, and with the body at 0.03 and the classifier at 0.1, Fashion-MNIST came to 77.3
fine-tuned and to 80.2 from scratch.
"""

from convzoo.configs import quickstart

# The run that it starts from, the source, the pictures that it learns from, the pictures for choosing.
_VARIANTS = {
    "fashion_mnist": ("runs/quickstart", "idx:/usr/share/datasets/fashion-mnist", "train[:200]", "train[55000:57000]"),
    "digits": ("runs/fashion_mnist", "digits", "train[:200]", "train[50%:]"),
}
_FROM_SCRATCH = "_from_scratch"
VARIANTS = tuple(name + ending for name in _VARIANTS for ending in ("", _FROM_SCRATCH))


def get_config(variant: str = "fashion_mnist"):
    """The experiment of one of VARIANTS."""
    variant = variant or "fashion_mnist"
    if variant not in VARIANTS:
        raise ValueError(f"configs/fine_tune.py has no variant {variant!r}; known: {', '.join(VARIANTS)}")
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
        config.init.new_head = True  # ten classes there and ten here, but others
        config.init.freeze = ("stem_*",)
        config.init.body_rate = 1 / 3
        config.optimizer.learning_rate = 0.3
    return config
