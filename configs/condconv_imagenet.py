"""MobileNetV1, MobileNetV2, MnasNet-A1 and ResNets on ImageNet, with CondConv (arXiv 1904.04971) and without.

    python train.py --config=configs/condconv_imagenet.py:mobilenet_v1_condconv_x1_0 --tpu=local --workdir=gs://B/v1

A variant is the name of a network. mobilenet_v1_condconv_x0_25_32e_ROUTING is the network of the paper's ablations,
with 32 experts and one of the eight ways to compute routing weights: one_layer (the baseline), single,
partially_shared, hidden_small, hidden_medium, hidden_large, hierarchical or softmax (the paper's table 3).

Not run: needs ImageNet (prepared by hand, see the catalog of TensorFlow Datasets) and a TPU v3-8 or larger. The
accuracies that the paper reports are in `convzoo.models.info(NAME).reported`.

The paper's recipe is not available. This recipe is a common one for these networks: momentum, cosine decay after a
warm-up, label smoothing and the inception crop. The MnasNets have the recipe of their own paper (arXiv 1807.11626), as
the paper is reported to use: RMSProp, a rate that decays by 0.97 every 2.4 epochs, and a moving average. The paper is
reported to use AutoAugment and mixup of 0.2 for its larger networks, without a list of them; this file applies both to
the conditional MnasNet-A1 and ResNet-50. The paper also drops experts of ResNet-50
(`--config.model.operator.expert_dropout`) at a rate that it does not state, so expect a lower accuracy than reported.
The paper's table 4 varies `first_block`, `stem` and `classifier` of `config.model.operator`.
"""

from convzoo.configs import base
from convzoo.configs.variants import variants

_WIDTHS = ("x0_25", "x0_5", "x0_75", "x1_0")
_CONDITIONAL = (
    *(f"mobilenet_v1_condconv_{width}" for width in _WIDTHS),
    "mobilenet_v2_condconv_x1_0",
    "mnasnet_a1_condconv",
    "resnet50_condconv",
)
_ROUTINGS = (
    "one_layer",
    "single",
    "partially_shared",
    "hidden_small",
    "hidden_medium",
    "hidden_large",
    "hierarchical",
    "softmax",
)
_ABLATIONS = {f"mobilenet_v1_condconv_x0_25_32e_{routing}": routing for routing in _ROUTINGS}
_STATIC = (
    *(f"mobilenet_v1_{width}" for width in _WIDTHS),
    "mobilenet_v2_x1_0",
    "mnasnet_a1",
    "resnet18",
    "resnet34",
    "resnet50",
)


@variants(*_CONDITIONAL, *_ABLATIONS, *_STATIC, default="mobilenet_v1_condconv_x1_0")
def get_config(variant):
    """Returns the recipe of one network."""
    is_resnet = variant.startswith("resnet")
    config = base.get_config()
    config.model.name = "mobilenet_v1_condconv_x0_25" if variant in _ABLATIONS else variant
    config.model.overrides = {"dropout_rate": 0.0 if is_resnet else 0.2}
    if variant in _CONDITIONAL:
        # The command line can change only settings that exist. The network has its own first_block.
        config.model.operator = {"num_experts": 8, "routing": "one_layer", "expert_dropout": 0.0}
    if variant in _ABLATIONS:
        config.model.operator = {"num_experts": 32, "routing": _ABLATIONS[variant], "expert_dropout": 0.0}

    config.data.source = "tfds:imagenet2012"
    config.data.eval_split = "validation"
    if "x0_25" in variant:  # too small to gain from strong crops
        config.data.crop_area = (0.25, 1.0)
    if variant in ("mnasnet_a1_condconv", "resnet50_condconv"):
        config.data.auto_augment, config.data.mixup = True, 0.2

    config.batch_size = 1024
    config.epochs = 120.0 if is_resnet else 300.0
    config.precision = "mixed_bfloat16"
    config.label_smoothing = 0.1
    config.weight_decay = 1e-4 if is_resnet else 4e-5
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.4  # 0.1 per 256 images
    config.schedule.warmup_epochs = 5.0

    if variant.startswith("mnasnet"):
        config.epochs = 350.0
        config.weight_decay = 1e-5
        config.optimizer.name = "rmsprop"
        config.optimizer.learning_rate = 0.064  # 0.016 per 256 images
        config.schedule.name = "exponential"  # by 0.97 every 2.4 epochs
        config.ema_decay = 0.9999

    config.steps_per_loop = 313  # a quarter of an epoch
    config.eval_every_epochs = 5.0
    return config
