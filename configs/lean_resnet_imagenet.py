"""LeanResNet and ResNet on ImageNet (LeanConvNets, arXiv 1910.13157).

    python train.py --config=configs/lean_resnet_imagenet.py:lean_resnet34 --tpu=local --workdir=gs://B/lean

Variants: lean_resnet18, lean_resnet34, lean_resnet50, and resnet18, resnet34, resnet50 to hold them against. Not run
here: it needs ImageNet (prepared by hand, see the catalogue of TensorFlow Datasets) and a TPU v3-8 or better.

No recipe of the paper is known to us. This one is the common one of ResNets, with the schedule of large batches (arXiv
1706.02677): 90 epochs of 1024 pictures a step, momentum with Nesterov, a rate of 0.1 for every 256 pictures after 5
epochs of warm-up, a tenth of it from the epochs 30, 60 and 80 on, weight decay of 1e-4, the inception crop.

`--config.model.overrides.stencil` and `group_size` are the paper's two tuning parameters; `symmetric_step=True` is its
authors' earlier block, for the networks of 18 and 34 layers.
"""

from convzoo.configs import base

VARIANTS = tuple(f"{kind}resnet{depth}" for kind in ("lean_", "") for depth in (18, 34, 50))


def get_config(variant: str = "lean_resnet34"):
    """The recipe for one of VARIANTS."""
    variant = variant or "lean_resnet34"
    if variant not in VARIANTS:
        raise ValueError(f"configs/lean_resnet_imagenet.py has no variant {variant!r}; known: {', '.join(VARIANTS)}")
    config = base.get_config()
    config.model.name = variant
    with config.unlocked():
        lean_overrides(config.model)

    config.data.source = "tfds:imagenet2012"
    config.data.train_split = "train"
    config.data.eval_split = "validation"

    config.batch_size = 1024
    config.epochs = 90.0
    config.precision = "mixed_bfloat16"
    config.weight_decay = 1e-4

    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.4
    config.schedule.name = "step"
    config.schedule.warmup_epochs = 5.0
    config.schedule.milestones, config.schedule.decay_rate = (30.0, 60.0, 80.0), 0.1

    config.steps_per_loop = 313  # a quarter of an epoch
    config.eval_every_epochs = 5.0
    config.checkpoint_every_epochs = 1.0
    return config


def lean_overrides(model):
    """Puts a lean network's settings into its config, for the command line to change."""
    if model.name.startswith("lean"):
        model.overrides.stencil = "5-point"
        model.overrides.group_size = 1
        if "resnet50" not in model.name:
            model.overrides.symmetric_step = False
