"""The MobileNets, MnasNet-A1 and ResNets of the CondConv paper on ImageNet, static and conditional.

    python train.py --config=configs/condconv_imagenet.py:mobilenet_v1_condconv_x1_0 --tpu=local --workdir=gs://B/v1

A variant is the name of a network. Not run here: it needs ImageNet (prepared by hand, see the catalogue of TensorFlow
Datasets) and a TPU v3-8 or better. What the paper reports stands in `convzoo.models.info(NAME).reported`.

The paper's own recipe was not to be had. This is a usual one for such networks: momentum with a cosine after a warm-up,
label smoothing, the inception crop. The paper is reported to have used AutoAugment and mixup of 0.2 for its larger
networks, without a list of them: here those are inferred to be the conditional MnasNet-A1 and ResNet-50. It also
dropped experts of ResNet-50 (`--config.model.overrides.expert_dropout`, a rate it does not give): expect less than it
reports. Its ablations are overrides too: `num_experts`, `first_conditional_block`,
`conditional_classifier` and `routing`.
"""

from convzoo.configs import base

_CONDITIONAL = (
    *(f"mobilenet_v1_condconv_{width}" for width in ("x0_25", "x0_5", "x0_75", "x1_0")),
    "mobilenet_v2_condconv_x1_0",
    "mnasnet_a1_condconv",
    "resnet50_condconv",
)
_STATIC = (
    *(f"mobilenet_v1_{width}" for width in ("x0_25", "x0_5", "x0_75", "x1_0")),
    "mobilenet_v2_x1_0",
    "mnasnet_a1",
    "resnet18",
    "resnet34",
    "resnet50",
)
VARIANTS = (*_CONDITIONAL, *_STATIC)
# Those that are inferred to have been trained with AutoAugment and mixup.
_LARGER = ("mnasnet_a1_condconv", "resnet50_condconv")


def get_config(variant: str = "mobilenet_v1_condconv_x1_0"):
    """The recipe for one of VARIANTS."""
    variant = variant or VARIANTS[3]
    if variant not in VARIANTS:
        raise ValueError(f"configs/condconv_imagenet.py has no variant {variant!r}; known: {', '.join(VARIANTS)}")
    config = base.get_config()
    config.model.name = variant
    with config.unlocked():
        config.model.overrides.dropout_rate = 0.0 if variant.startswith("resnet") else 0.2
        if variant in _CONDITIONAL:
            # Here to be changed from the command line; first_conditional_block is the network's own unless set.
            config.model.overrides.num_experts = 8
            config.model.overrides.routing = "one_layer"
            config.model.overrides.expert_dropout = 0.0

    config.data.source = "tfds:imagenet2012"
    config.data.train_split = "train"
    config.data.eval_split = "validation"
    # A quarter of the width has no capacity to spare for strong crops.
    config.data.crop_area = (0.25, 1.0) if "x0_25" in variant else (0.08, 1.0)

    if variant in _LARGER:
        config.data.auto_augment, config.data.mixup = True, 0.2

    config.batch_size = 1024
    config.epochs = 120.0 if variant.startswith("resnet") else 300.0
    config.precision = "mixed_bfloat16"
    config.label_smoothing = 0.1
    config.weight_decay = 1e-4 if variant.startswith("resnet") else 4e-5

    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1 * config.batch_size / 256
    config.optimizer.nesterov = True
    config.schedule.name = "cosine"
    config.schedule.warmup_epochs = 5.0

    config.steps_per_loop = 313  # a quarter of an epoch
    config.eval_every_epochs = 5.0
    config.checkpoint_every_epochs = 1.0
    return config
