"""A network and an experiment that train in seconds. Also a config file for the programs."""

from convzoo.configs import base
from convzoo.configs.variants import variants

BLOCKS = ("r1_k3_s11_e1_i32_o16", "r1_k3_s22_e2_i16_o24_se0.25", "r2_k3_s22_e2_i24_o24")
OVERRIDES = {"blocks": BLOCKS, "width_coefficient": 0.25, "stem_strides": 1}
OPERATOR = {"num_experts": 2, "first_block": 2}  # the last stage
# Variant: network, overrides, settings of the operator.
_NETWORKS = {
    "": ("efficientnet_condconv_b0_4e", {**OVERRIDES, "dropout_rate": 0.3, "survival_prob": 0.6}, OPERATOR),
    "regions": (
        "mobilenet_v1_drconv_x0_25",
        {"blocks": ((8, 1), (8, 2)), "stem_strides": 1},
        {"regions": 3, "bank_size": 2},
    ),
    "segmentation": (
        "lean_resnet18_cifar",
        {"repeats": (1, 1, 1, 1), "width_coefficient": 0.125},
        {"group_size": 2},
    ),
    "verification": (
        "mobile_facenet",
        {"stages": ((2, 8, 1, 2), (2, 16, 1, 2)), "width_coefficient": 0.25, "embedding_filters": 8, "stem_strides": 1},
        {},
    ),
    "detection": ("mobilenet_v1_x0_25", {"blocks": ((8, 2), (8, 2), (16, 2), (16, 2))}, {}),
}


@variants("regions", "segmentation", "detection", "verification")
def get_config(variant):
    """Returns 24 steps of 16 generated images in 3 epochs, with CondConv or DRConv, or of another task."""
    config = base.get_config()
    config.model.name, config.model.overrides, config.model.operator = _NETWORKS[variant]
    config.model.image_size = 16
    config.data.source = "fake:classes=4,size=16,examples=128"
    if variant == "segmentation":
        config.task = "segmentation"
        config.data.source = "shapes:size=16,examples=128"
        config.segmentation.output_stride, config.segmentation.atrous_rates = 8, (1,)
        config.segmentation.filters, config.segmentation.low_level_filters = 8, 4
    if variant == "detection":
        config.task = "detection"
        config.model.image_size = 64
        config.data.source = "shapes_boxes:size=64,examples=128"
        config.detector.extra_filters = (32,)
    if variant == "verification":
        config.task = "verification"
        config.data.source, config.data.train_split = "digits:classes=0-6", "train[:128]"
        config.verification.pairs, config.verification.num_pairs = "digits:classes=7-9", 100
        config.data.flip = False
    config.data.eval_split = "test" if variant == "verification" else "train[:50]"
    config.batch_size = 16
    config.epochs = 3.0
    config.optimizer.learning_rate = 0.01
    config.schedule.warmup_epochs = 0.5
    config.weight_decay = 1e-4
    config.label_smoothing = 0.0 if variant == "detection" else 0.1
    config.ema_decay = 0.9
    config.steps_per_loop = 3
    return config
