"""LeanResNet and ResNet on CIFAR-10 and CIFAR-100 (LeanResNet, arXiv 1904.06952, shows both).

    python train.py --config=configs/lean_resnet_cifar.py:lean_resnet18 --workdir=runs/lean
    python train.py --config=configs/lean_resnet_cifar.py:lean_resnet18_cifar100 --workdir=runs/lean_100

Variants: lean_resnet18, lean_resnet34, lean_resnet50, resnet18, resnet34, resnet50, and each with _cifar100. Not run
here: TensorFlow Datasets would have to download the pictures. The best epoch is chosen on the last 5,000 training
pictures.

No recipe or layout of the paper is known to us. The networks are ResNet's with a 3x3 stem; the recipe is a common one
for them: 200 epochs of 128 pictures a step, momentum with Nesterov, a rate of 0.1 that falls along a cosine, weight
decay of 5e-4, a random crop with 4 pixels of padding.
"""

from convzoo.configs import base
from convzoo.configs.lean_resnet_imagenet import VARIANTS as _NETWORKS
from convzoo.configs.lean_resnet_imagenet import lean_overrides

VARIANTS = tuple(f"{network}{ending}" for network in _NETWORKS for ending in ("", "_cifar100"))


def get_config(variant: str = "lean_resnet18"):
    """The recipe for one of VARIANTS."""
    variant = variant or "lean_resnet18"
    if variant not in VARIANTS:
        raise ValueError(f"configs/lean_resnet_cifar.py has no variant {variant!r}; known: {', '.join(VARIANTS)}")
    config = base.get_config()
    config.model.name = f"{variant.removesuffix('_cifar100')}_cifar"
    with config.unlocked():
        lean_overrides(config.model)

    config.data.source = "tfds:cifar100" if variant.endswith("_cifar100") else "tfds:cifar10"
    config.data.train_split = "train[:45000]"
    config.data.eval_split = "train[45000:]"
    config.data.crop_area = None
    config.data.crop_padding = 4

    config.batch_size = 128
    config.epochs = 200.0
    config.weight_decay = 5e-4
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1

    config.steps_per_loop = 351  # an epoch
    config.eval_batch_size = 512
    config.eval_every_epochs = 5.0
    config.checkpoint_every_epochs = 5.0
    return config
