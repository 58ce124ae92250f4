"""LeanResNet and ResNet on ImageNet (LeanConvNets, arXiv 1910.13157).

    python train.py --config=configs/lean_resnet_imagenet.py:lean_resnet34 --tpu=local --workdir=gs://B/lean

Variants: lean_resnet18, lean_resnet34, lean_resnet50, and the baselines resnet18, resnet34, resnet50.

Not run: needs ImageNet (prepared by hand, see the catalog of TensorFlow Datasets) and a TPU v3-8 or larger.

The paper's recipe is not known. This recipe is the common one of ResNets, with the schedule of large batches (arXiv
1706.02677): 90 epochs of 1024 images per step, Nesterov momentum, a learning rate of 0.1 per 256 images after 5 epochs
of warm-up, divided by 10 at epochs 30, 60 and 80, weight decay 1e-4 and the inception crop.

The paper tunes `config.model.operator.stencil` and `group_size`. `--config.model.operator.adjoint_step=True` selects
the authors' earlier block in the networks of 18 and 34 layers.
"""

from convzoo.configs import base
from convzoo.configs.variants import variants


def lean_settings(network):
    """Returns the operator's settings in a LeanResNet, which the command line can change; {} for a ResNet."""
    if not network.startswith("lean"):
        return {}
    adjoint_step = {} if "resnet50" in network else {"adjoint_step": False}
    return {"stencil": "5-point", "group_size": 1, **adjoint_step}


@variants(*(f"{prefix}resnet{depth}" for prefix in ("lean_", "") for depth in (18, 34, 50)), default="lean_resnet34")
def get_config(variant):
    """Returns the recipe of one network."""
    config = base.get_config()
    config.model.name = variant
    config.model.operator = lean_settings(variant)

    config.data.source = "tfds:imagenet2012"
    config.data.eval_split = "validation"

    config.batch_size = 1024
    config.epochs = 90.0
    config.precision = "mixed_bfloat16"
    config.weight_decay = 1e-4
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.4  # 0.1 per 256 images
    config.schedule.name = "step"
    config.schedule.warmup_epochs = 5.0
    config.schedule.milestones, config.schedule.decay_rate = (30.0, 60.0, 80.0), 0.1

    config.steps_per_loop = 313  # a quarter of an epoch
    config.eval_every_epochs = 5.0
    return config
