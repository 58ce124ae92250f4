"""Small networks on Fashion-MNIST at 32x32.

    apt-get install dataset-fashion-mnist      # Debian; or put the four idx files into a folder of your own
    python train.py --config=configs/fashion_mnist.py --workdir=runs/fashion_mnist
    python eval.py --workdir=runs/fashion_mnist --checkpoint=best --split=test

The best checkpoint is chosen on the last 5,000 training pictures; the test split is only for `eval.py`. Another folder:
`--config.data.source=idx:/my/folder`.

Without a variant it is the quickstart's network. Seen on two CPU cores that did other work besides (TensorFlow 2.21,
float32): 13.6 minutes, 88.4 % of the 10,000 test pictures right after 4 epochs.

Variants, which share one recipe; scripts/study.py compares them, and the README has the tables and their commands:
mobilenet_v1, MobileNetV1 at a quarter of its width, and mobilenet_v1_2e, _4e, _8e and _8e_softmax, its CondConv form
with so many experts and with a softmax for routing; shufflenet, ShuffleNetV2 at half of its width, shufflenet_8r, its
DRConv form with 8 regions, and shufflenet_1r, the same with one, which is one kernel an image.
"""

from convzoo.configs import quickstart

_MOBILENETS = {
    "mobilenet_v1": {},
    "mobilenet_v1_2e": {"num_experts": 2},
    "mobilenet_v1_4e": {"num_experts": 4},
    "mobilenet_v1_8e": {"num_experts": 8},
    "mobilenet_v1_8e_softmax": {"num_experts": 8, "routing": "softmax"},
}
_SHUFFLENETS = {
    "shufflenet": {},
    "shufflenet_1r": {"regions": 1},
    "shufflenet_8r": {"regions": 8},
}
VARIANTS = ("", *_MOBILENETS, *_SHUFFLENETS)


def get_config(variant: str = ""):
    """The experiment of one of VARIANTS."""
    if variant not in VARIANTS:
        raise ValueError(f"configs/fashion_mnist.py has no variant {variant!r}; known: {', '.join(VARIANTS[1:])}")
    config = quickstart.get_config()
    config.model.overrides.bn_momentum = 0.99

    config.data.source = "idx:/usr/share/datasets/fashion-mnist"
    config.data.train_split = "train[:55000]"
    config.data.eval_split = "train[55000:]"
    config.data.flip = True

    config.batch_size = 128
    config.eval_batch_size = 512
    config.epochs = 4.0
    config.weight_decay = 1e-5
    config.optimizer.name = "rmsprop"
    config.optimizer.learning_rate = 0.01
    config.schedule.warmup_epochs = 0.5
    config.ema_decay = 0.99
    config.steps_per_loop = 50
    config.eval_every_epochs = 1.0
    config.checkpoint_every_epochs = 1.0
    if variant in _MOBILENETS:
        _compare(config, "mobilenet_v1_{}x0_25", "condconv_", _MOBILENETS[variant], dropout_rate=0.1)
    elif variant in _SHUFFLENETS:
        _compare(config, "shufflenet_v2_{}x0_5", "drconv_", _SHUFFLENETS[variant])
    return config


def _compare(config, name, kind, own, **shared):
    """The recipe of all compared networks; `kind` is in the name of those that have settings of their own."""
    config.model.name = name.format(kind if own else "")
    with config.unlocked():
        config.model.overrides = {"stem_strides": 1, **shared, **own}
    config.data.crop_area = (0.5, 1.0)
    config.epochs = 2.0
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.schedule.warmup_epochs = 0.25
    config.weight_decay = 1e-4
