"""Seesaw-Net and the baselines IGCV3 and MobileNetV2 on CIFAR-10 and CIFAR-100 (arXiv 1905.03672, tables 3 and 4).

    python train.py --config=configs/seesawnet_cifar.py:shuffle_1_0d --workdir=runs/seesaw
    python train.py --config=configs/seesawnet_cifar.py:shuffle_1_0d_cifar100_per_epoch --workdir=runs/seesaw_100

A variant is a network of configs/seesawnet_imagenet.py, optionally with _cifar100 and then optionally with _per_epoch,
which selects the other published learning rate schedule. The last 5,000 training images select the best checkpoint.

Not run: TensorFlow Datasets has to download the images. The paper reports 95.28 % and 79.26 % for shuffle_1_0d,
probably from the best epoch on the test images.

The recipe is the one of the authors' code: 400 epochs of 64 images per step, momentum without Nesterov, a learning rate
of 0.1, weight decay 1e-4, dropout 0.5 before the classifier and a random crop with 4 pixels of padding. The authors
describe two schedules: their program multiplies the rate by 0.98 every epoch (_per_epoch), and one of them states
elsewhere that division by 10 at epochs 200, 300 and 350 gives the published accuracies (default). Two differences from
their code: BatchNorm has no weight decay here, and CIFAR-100 is normalized with the mean and deviation of CIFAR-10.
"""

from convzoo.configs import base, seesawnet_imagenet
from convzoo.configs.variants import variants

# Variant: network, data set, decay of the learning rate every epoch.
_VARIANTS = {
    f"{network}{suffix}{schedule}": (f"{name}_cifar", dataset, bool(schedule))
    for network, name in seesawnet_imagenet.NETWORKS.items()
    for suffix, dataset in (("", "cifar10"), ("_cifar100", "cifar100"))
    for schedule in ("", "_per_epoch")
}


@variants(*_VARIANTS, default="shuffle_1_0d")
def get_config(variant):
    """Returns the recipe of one network on one data set."""
    name, dataset, per_epoch = _VARIANTS[variant]
    config = base.get_config()
    config.model.name = name
    config.model.overrides = {"dropout_rate": 0.5}

    config.data.source = f"tfds:{dataset}"
    config.data.train_split = "train[:45000]"
    config.data.eval_split = "train[45000:]"
    config.data.crop_area = None
    config.data.crop_padding = 4

    config.batch_size = 64
    config.eval_batch_size = 512
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
    config.eval_every_epochs = 5.0
    config.checkpoint_every_epochs = 5.0
    return config
