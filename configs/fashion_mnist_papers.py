"""One small network of each paper, with the optimizer and schedule of its ImageNet config, for 12 epochs.

    python train.py --config=configs/fashion_mnist_papers.py:condconv --workdir=runs/papers/condconv

Needs Debian's package dataset-fashion-mnist, or the files in another folder: `--config.data.source=idx:/my/folder`.
The last 5,000 training images select the best checkpoint; only `eval.py` uses the test split. Results: docs/studies.md.

Variants: condconv, EfficientNet-B0 with a quarter of its channels, half of its depth and 8 experts in its last two
blocks; drconv, ShuffleNetV2 with 4 regions; seesaw, Seesaw-shuffle; lean, LeanResNet with 5-point stencils. The last
three are networks of configs/fashion_mnist_budget.py.

Optimizers, momenta, decays of the learning rate, weight decays and label smoothing are those of the ImageNet configs of
this folder; not all of these are known from the papers. Learning rates are scaled to 128 images per step. The length of
12 epochs is ours; decays, milestones and the warm-up of condconv are shortened in proportion. The memory of its moving
average is 500 steps. There is no dropout, mixup, AutoAugment, stochastic depth or color jitter, because these networks
underfit, and no warm-up of lean.
"""

from convzoo.configs import fashion_mnist_budget
from convzoo.configs.variants import variants

_EPOCHS = 12.0
# Variant: variant of fashion_mnist_budget, epochs of the recipe on ImageNet.
_NETWORKS = {
    "condconv": ("mobilenet_v2", 350.0),
    "drconv": ("shufflenet_v2_drconv_4r", 240.0),
    "seesaw": ("seesaw_shuffle", 480.0),
    "lean": ("lean", 90.0),
}


@variants(*_NETWORKS, default="condconv")
def get_config(variant):
    """Returns the experiment of a variant."""
    network, published_epochs = _NETWORKS[variant]
    shortening = _EPOCHS / published_epochs
    config = fashion_mnist_budget.get_config(network)
    config.epochs = _EPOCHS
    config.eval_every_epochs = 1.0
    config.schedule.warmup_epochs = 0.0
    config.ema_decay = None
    if variant == "condconv":
        config.model.name = "efficientnet_condconv_b0_8e"
        config.model.overrides = {
            "width_coefficient": 0.25,
            "depth_coefficient": 0.5,
            "stem_strides": 1,
            "dropout_rate": 0.0,
            "survival_prob": 1.0,
            "bn_momentum": 0.99,
        }
        config.optimizer.name = "rmsprop"
        config.optimizer.learning_rate = 0.008
        config.schedule.name = "exponential"
        config.schedule.decay_epochs = 2.4 * shortening
        config.schedule.warmup_epochs = 5.0 * shortening
        config.label_smoothing = 0.1
        config.weight_decay = 1e-5
        config.ema_decay = 0.998
    elif variant == "drconv":
        config.optimizer.learning_rate = 0.0625
        config.optimizer.nesterov = False
        config.schedule.name = "linear"
        config.label_smoothing = 0.1
        config.weight_decay = 4e-5
        config.weight_decay_on = ("kernels",)
    elif variant == "seesaw":
        config.optimizer.learning_rate = 0.06
        config.optimizer.nesterov = False
        config.schedule.name = "exponential"
        config.schedule.decay_epochs, config.schedule.decay_rate = shortening, 0.98
        config.weight_decay = 4e-5
        config.weight_decay_on = ("kernels", "biases", "batch_norm")
    else:
        config.optimizer.learning_rate = 0.05
        config.schedule.name = "step"
        config.schedule.milestones = tuple(epoch * shortening for epoch in (30.0, 60.0, 80.0))
        config.weight_decay = 1e-4
    return config
