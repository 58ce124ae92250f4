"""Seesaw-Net and the baselines IGCV3 and MobileNetV2 on CIFAR-10 and CIFAR-100 (arXiv 1905.03672, tables 3 and 4).

    python train.py --config=configs/seesawnet_cifar.py:shuffle_1_0d --workdir=runs/seesaw
    python train.py --config=configs/seesawnet_cifar.py:shuffle_1_0d_cifar100_per_epoch --workdir=runs/seesaw_100

A variant is a network of configs/seesawnet_imagenet.py, optionally with _cifar100 and then optionally with _per_epoch,
which selects the other published learning rate schedule. igcv3_0_5d and mobilenet_v2 also have _own, with or without
_cifar100 before it: the epochs, batch size, rate and decay of the settings that the authors published for them (for
igcv3_0_5d the rate of igcv3_1_0d), with the schedule of _per_epoch. The last 5,000 training images select the best
checkpoint.

Not run: TensorFlow Datasets has to download the images. The paper reports 95.28 % and 79.26 % for shuffle_1_0d,
probably from the best epoch on the test images.

The recipe is the one of the authors' code: 400 epochs of 64 images per step, momentum without Nesterov, a learning rate
of 0.1, weight decay 1e-4, dropout 0.5 before the classifier and a random crop with 4 pixels of padding. The authors
describe two schedules: their program multiplies the rate by 0.98 every epoch (_per_epoch), and one of them states
elsewhere that division by 10 at epochs 200, 300 and 350 gives the published accuracies (default).
"""

from convzoo.configs import base, seesawnet_imagenet
from convzoo.configs.variants import variants

# Of the training images.
CIFAR100_MEAN, CIFAR100_STD = (129.3, 124.1, 112.4), (68.2, 65.4, 70.4)
# Settings in the authors' repository for one network: epochs, batch size, learning rate, weight decay.
_OWN = {"igcv3_0_5d": (450.0, 64, 0.1, 1e-4), "mobilenet_v2": (500.0, 256, 0.045, 5e-4)}
# Variant: network, data set, schedule.
_VARIANTS = {
    f"{network}{suffix}{schedule}": (network, dataset, schedule)
    for network in seesawnet_imagenet.NETWORKS
    for suffix, dataset in (("", "cifar10"), ("_cifar100", "cifar100"))
    for schedule in ("", "_per_epoch", *(("_own",) if network in _OWN else ()))
}


@variants(*_VARIANTS, default="shuffle_1_0d")
def get_config(variant):
    """Returns the recipe of one network on one data set."""
    network, dataset, schedule = _VARIANTS[variant]
    config = base.get_config()
    config.model.name = f"{seesawnet_imagenet.NETWORKS[network]}_cifar"
    config.model.overrides = {"dropout_rate": 0.5}

    config.data.source = f"tfds:{dataset}"
    config.data.train_split = "train[:45000]"
    config.data.eval_split = "train[45000:]"
    config.data.crop_area = None
    config.data.crop_padding = 4
    if dataset == "cifar100":
        config.data.mean, config.data.std = CIFAR100_MEAN, CIFAR100_STD

    config.batch_size = 64
    config.eval_batch_size = 512
    config.epochs = 400.0
    config.weight_decay = 1e-4
    config.weight_decay_on = ("kernels", "biases", "batch_norm")
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.optimizer.nesterov = False
    if schedule == "_own":
        config.epochs, config.batch_size, config.optimizer.learning_rate, config.weight_decay = _OWN[network]
    if schedule:
        config.schedule.name = "exponential"
        config.schedule.decay_epochs, config.schedule.decay_rate = 1.0, 0.98
    else:
        config.schedule.name = "step"
        config.schedule.milestones, config.schedule.decay_rate = (200.0, 300.0, 350.0), 0.1

    config.steps_per_loop = 45_000 // config.batch_size  # an epoch
    config.eval_every_epochs = 5.0
    config.checkpoint_every_epochs = 5.0
    return config
