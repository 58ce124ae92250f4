"""Segmentation with a LeanResNet as the backbone of DeepLabv3+ (LeanConvNets, arXiv 1910.13157).

    python train.py --config=configs/lean_segmentation.py --workdir=runs/shapes
    python eval.py --workdir=runs/shapes --checkpoint=best --split=test
    python scripts/draw_segmentation.py --workdir=runs/shapes --checkpoint=best --split=test --output=shapes.png

Without a variant: LeanResNet-18 on discs, squares and triangles on noise, 64x64, which are generated while reading. The
last eighth of the training images selects the best checkpoint. Measured on two CPU cores that two other trainings used
(TensorFlow 2.21, float32): 10 minutes, 86.6 % mean intersection over union and 96.2 % pixel accuracy on the 512 test
images.

Variants: resnet18_cifar, the same with ResNet-18; pets and pets_resnet34, the Oxford-IIIT pets of TensorFlow Datasets
at 224x224 with LeanResNet-34 and ResNet-34. The pets were not run: the images have to be downloaded.

The segmentation networks and data sets of the paper are not known. `--config.init.weights=FILE.weights.h5` starts from
the weights of a backbone.
"""

from convzoo.configs import base
from convzoo.configs.variants import variants


@variants("resnet18_cifar", "pets", "pets_resnet34")
def get_config(variant):
    """Returns the experiment of a variant; without a variant LeanResNet-18 on shapes."""
    config = base.get_config()
    config.task = "segmentation"
    config.weight_decay = 1e-4
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.schedule.warmup_epochs = 1.0
    return _pets(config, variant) if variant.startswith("pets") else _shapes(config, variant)


def _shapes(config, variant):
    config.model.name = variant or "lean_resnet18_cifar"  # the _cifar stem keeps full resolution
    config.model.image_size = 64
    config.model.overrides = {"width_coefficient": 0.25}
    config.segmentation.output_stride = 8
    config.segmentation.filters = 32
    config.segmentation.low_level_filters = 16
    config.segmentation.atrous_rates = (1, 2, 4)  # for a feature map of 8x8

    config.data.source = "shapes:size=64,examples=2048"
    config.data.train_split = "train[:1792]"
    config.data.eval_split = "train[1792:]"
    config.data.crop_area = (1.0, 1.0)
    config.data.crop_aspect = (1.0, 1.0)

    config.batch_size = 16
    config.epochs = 15.0
    config.ema_decay = 0.95
    config.steps_per_loop = 28
    config.eval_every_epochs = 3.0
    config.checkpoint_every_epochs = 3.0
    return config


def _pets(config, variant):
    config.model.name = "resnet34" if variant.endswith("resnet34") else "lean_resnet34"
    config.data.source = "tfds:oxford_iiit_pet"
    config.data.train_split = "train[:90%]"
    config.data.eval_split = "train[90%:]"
    config.data.crop_area = (0.25, 1.0)

    config.batch_size = 64
    config.epochs = 100.0
    config.precision = "mixed_bfloat16"
    config.ema_decay = 0.99
    config.steps_per_loop = 50
    config.eval_every_epochs = 5.0
    config.checkpoint_every_epochs = 5.0
    return config
