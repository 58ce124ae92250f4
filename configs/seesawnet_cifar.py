"""Seesaw-Net, and beside it IGCV3 and MobileNetV2, on CIFAR-10 and CIFAR-100 (arXiv 1905.03672, tables 3 and 4).

    python train.py --config=configs/seesawnet_cifar.py:shuffle_1_0d --workdir=runs/seesaw
    python train.py --config=configs/seesawnet_cifar.py:shuffle_1_0d_cifar100_per_epoch --workdir=runs/seesaw_100

A variant is a network, with _cifar100 for that data set, and with _per_epoch for the other reading of the decay. Not
run here: TensorFlow Datasets would have to download the pictures. The paper reports 95.28 % and 79.26 % for
shuffle_1_0d; its figures are likely those of the best epoch on the test pictures. Here the best epoch is chosen on the
last 5,000 training pictures.

The recipe is that of the authors' code: 400 epochs of 64 pictures a step, momentum without Nesterov, a rate of 0.1,
weight decay of 1e-4, dropout of 0.5 before the classifier. Of the rate two things are said: the released program
multiplies it by 0.98 every epoch, and an author has written elsewhere that falls to a tenth at the epochs 200, 300 and
350 give the published figures. The second is the default here. Pictures are cropped at random with 4 pixels of padding.
Theirs differs in two things: it decays batch normalisation too, and it normalises each data set by its own mean and
deviation, where CIFAR-100 has CIFAR-10's here.
"""

from convzoo.configs import base, seesawnet_imagenet

_DATA = {"": "cifar10", "_cifar100": "cifar100"}
_DECAY = ("", "_per_epoch")
# Variant: network, data set, whether the rate falls every epoch.
_VARIANTS = {
    f"{network}{ending}{decay}": (f"{name}_cifar", data, bool(decay))
    for network, name in seesawnet_imagenet.NETWORKS.items()
    for ending, data in _DATA.items()
    for decay in _DECAY
}
VARIANTS = tuple(_VARIANTS)


def get_config(variant: str = "shuffle_1_0d"):
    """The recipe for one of VARIANTS."""
    variant = variant or "shuffle_1_0d"
    if variant not in VARIANTS:
        raise ValueError(f"configs/seesawnet_cifar.py has no variant {variant!r}; known: {', '.join(VARIANTS)}")
    name, data, per_epoch = _VARIANTS[variant]
    config = base.get_config()
    config.model.name = name
    with config.unlocked():
        config.model.overrides.dropout_rate = 0.5

    config.data.source = f"tfds:{data}"
    config.data.train_split = "train[:45000]"
    config.data.eval_split = "train[45000:]"
    config.data.crop_area = None
    config.data.crop_padding = 4

    config.batch_size = 64
    config.epochs = 400.0
    config.weight_decay = 1e-4
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.optimizer.nesterov = False
    if per_epoch:
        config.schedule.name = "exponential"
        config.schedule.decay_epochs, config.schedule.decay_rate = 1.0, 0.98
    else:
        config.schedule.name = "step"
        config.schedule.milestones, config.schedule.decay_rate = (200.0, 300.0, 350.0), 0.1

    config.steps_per_loop = 703  # an epoch
    config.eval_batch_size = 512
    config.eval_every_epochs = 5.0
    config.checkpoint_every_epochs = 5.0
    return config
