"""A network and an experiment so small that a test can train them in seconds. Also a config file for the programs."""

from convzoo.configs import base

BLOCKS = ("r1_k3_s11_e1_i32_o16_se0.25", "r1_k3_s22_e2_i16_o24_se0.25", "r2_k3_s22_e2_i24_o24_se0.25_cc")
NETWORKS = {
    "": "efficientnet_condconv_b0_4e",
    "regions": "mobilenet_v1_drconv_x0_25",
    "segmentation": "lean_resnet18_cifar",
}
OVERRIDES = {"blocks": BLOCKS, "width_coefficient": 0.25, "num_experts": 2, "stem_strides": 1}


def get_config(variant=""):
    """24 steps of 16 fake pictures in 3 epochs; a conditional network, in variant "regions" a region-aware one, in
    "segmentation" one that gives every pixel a class."""
    config = base.get_config()
    with config.unlocked():
        if variant == "segmentation":
            config.model.overrides = {"repeats": (1, 1, 1, 1), "width_coefficient": 0.125, "group_size": 2}
        elif variant == "regions":
            config.model.overrides = {"blocks": ((8, 1), (8, 2)), "regions": 3, "bank_size": 2, "stem_strides": 1}
        else:
            config.model.overrides.update({**OVERRIDES, "dropout_rate": 0.3, "survival_prob": 0.6})
    config.model.name = NETWORKS[variant]
    config.model.image_size = 16
    config.data.source = "fake:classes=4,size=16,examples=128"
    if variant == "segmentation":
        config.task = "segmentation"
        config.data.source = "shapes:size=16,examples=128"
        config.segmentation.output_stride, config.segmentation.atrous_rates = 8, (1, 2)
        config.segmentation.filters, config.segmentation.low_level_filters = 8, 4
    config.data.train_split = "train"
    config.data.eval_split = "train[:50]"
    config.batch_size = 16
    config.epochs = 3.0
    config.optimizer.learning_rate = 0.01
    config.schedule.warmup_epochs = 0.5
    config.weight_decay = 1e-4
    config.label_smoothing = 0.1
    config.ema_decay = 0.9
    config.steps_per_loop = 3
    return config
