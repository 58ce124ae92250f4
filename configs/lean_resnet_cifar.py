"""LeanResNet (arXiv 1904.06952) and ResNet on CIFAR-10 and CIFAR-100.

    python train.py --config=configs/lean_resnet_cifar.py:lean_resnet18 --workdir=runs/lean
    python train.py --config=configs/lean_resnet_cifar.py:lean_resnet18_cifar100 --workdir=runs/lean_100

Variants: lean_resnet18, lean_resnet34, lean_resnet50, resnet18, resnet34, resnet50, each also with _cifar100. The last
5,000 training images select the best checkpoint.

Not run: TensorFlow Datasets has to download the images.

The paper's recipe and layout are not known. The networks are ResNets with a 3x3 stem, with a common recipe: 200 epochs
of 128 images per step, Nesterov momentum, a learning rate of 0.1 with cosine decay, weight decay 5e-4 and a random crop
with 4 pixels of padding.
"""

from convzoo.configs import base, lean_resnet_imagenet
from convzoo.configs.variants import variants

_CIFAR100 = "_cifar100"


@variants(
    *(f"{network}{suffix}" for network in lean_resnet_imagenet.get_config.variants for suffix in ("", _CIFAR100)),
    default="lean_resnet18",
)
def get_config(variant):
    """Returns the recipe of one network on one data set."""
    config = base.get_config()
    config.model.name = f"{variant.removesuffix(_CIFAR100)}_cifar"
    config.model.operator = lean_resnet_imagenet.lean_settings(variant)

    config.data.source = "tfds:cifar100" if variant.endswith(_CIFAR100) else "tfds:cifar10"
    config.data.train_split = "train[:45000]"
    config.data.eval_split = "train[45000:]"
    config.data.crop_area = None
    config.data.crop_padding = 4

    config.batch_size = 128
    config.eval_batch_size = 512
    config.epochs = 200.0
    config.weight_decay = 5e-4
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1

    config.steps_per_loop = 351  # an epoch
    config.eval_every_epochs = 5.0
    config.checkpoint_every_epochs = 5.0
    return config
