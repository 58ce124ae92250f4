"""A small CondConv-EfficientNet on scikit-learn's handwritten digits, enlarged to 32x32.

    python train.py --config=configs/quickstart.py --workdir=runs/quickstart

Nothing is downloaded. The best checkpoint is chosen on the last tenth of the training pictures; the test split is only
for `eval.py`.

Seen on two CPU cores (TensorFlow 2.21, float32): 2 to 2.5 minutes; 98.9 % and 99.2 % of the 359 test pictures, in two
runs.
"""

from convzoo.configs import base


def get_config(variant: str = ""):
    """The experiment; it has no variants."""
    if variant:
        raise ValueError(f"configs/quickstart.py has no variant {variant!r}; leave it out")
    config = base.get_config()
    with config.unlocked():
        # Three stages instead of seven: at 32x32 the published ones would end at 2x2 pixels and less, where the routing
        # of a freshly initialised network, an average over so few, is mostly noise and learns slowly.
        config.model.overrides.blocks = (
            "r1_k3_s11_e1_i32_o16_se0.25",
            "r1_k3_s22_e4_i16_o24_se0.25",
            "r2_k5_s22_e4_i24_o40_se0.25_cc",
        )
        config.model.overrides.num_experts = 4
        config.model.overrides.width_coefficient = 0.5
        config.model.overrides.stem_strides = 1
        config.model.overrides.dropout_rate = 0.1
        config.model.overrides.survival_prob = 0.9
        config.model.overrides.bn_momentum = 0.9
    config.model.name = "efficientnet_condconv_b0_4e"
    config.model.image_size = 32

    config.data.source = "digits"
    config.data.train_split = "train[:90%]"
    config.data.eval_split = "train[90%:]"
    config.data.crop_area = (0.6, 1.0)
    config.data.flip = False  # a mirrored 2 is no 2
    config.data.crop_fraction = 1.0

    config.batch_size = 64
    config.epochs = 25.0
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.schedule.warmup_epochs = 1.0
    config.label_smoothing = 0.1
    config.weight_decay = 1e-4
    config.ema_decay = 0.95
    config.steps_per_loop = 20
    config.eval_every_epochs = 5.0
    config.checkpoint_every_epochs = 5.0
    return config
