"""LeanResNet (arXiv 1904.06952) and ResNet on CIFAR-10, CIFAR-100 and STL-10, the data sets of the paper.

    python train.py --config=configs/lean_resnet_cifar.py:lean_resnet18 --workdir=runs/lean
    python train.py --config=configs/lean_resnet_cifar.py:lean_resnet18_cifar100 --workdir=runs/lean_100

Variants: lean_resnet18, lean_resnet34, lean_resnet50, resnet18, resnet34, resnet50, each also with _cifar100 or _stl10.
The last tenth of the training images selects the best checkpoint.

Not run: TensorFlow Datasets has to download the images.

The paper's recipe and layout are not known. The networks are ResNets with a 3x3 stem, with a common recipe: 200 epochs
of 128 images per step, Nesterov momentum, a learning rate of 0.1 with cosine decay, weight decay 5e-4 and a random crop
with 4 pixels of padding. STL-10 has 5,000 labeled training images of 96x96; the padding has 12 pixels there.
"""

from convzoo.configs import base, lean_resnet_imagenet, seesawnet_cifar
from convzoo.configs.variants import variants

# Variant: network, data set.
_VARIANTS = {
    f"{network}{suffix}": (network, dataset)
    for network in lean_resnet_imagenet.get_config.variants
    for suffix, dataset in (("", "cifar10"), ("_cifar100", "cifar100"), ("_stl10", "stl10"))
}
# Of the training images.
_STL10_MEAN, _STL10_STD = (113.9, 112.1, 103.7), (66.4, 65.4, 69.2)


@variants(*_VARIANTS, default="lean_resnet18")
def get_config(variant):
    """Returns the recipe of one network on one data set."""
    config = base.get_config()
    network, dataset = _VARIANTS[variant]
    config.model.name = f"{network}_cifar"
    config.model.operator = lean_resnet_imagenet.lean_settings(network)

    config.data.source = f"tfds:{dataset}"
    config.data.train_split = "train[:90%]"
    config.data.eval_split = "train[90%:]"
    config.data.crop_area = None
    config.data.crop_padding = 4
    if dataset == "cifar100":
        config.data.mean, config.data.std = seesawnet_cifar.CIFAR100_MEAN, seesawnet_cifar.CIFAR100_STD
    if dataset == "stl10":
        config.model.image_size, config.data.crop_padding = 96, 12
        config.data.mean, config.data.std = _STL10_MEAN, _STL10_STD

    config.batch_size = 128
    config.eval_batch_size = 512
    config.epochs = 200.0
    config.weight_decay = 5e-4
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1

    config.steps_per_loop = 35 if dataset == "stl10" else 351  # an epoch
    config.eval_every_epochs = 5.0
    config.checkpoint_every_epochs = 5.0
    return config
