"""The four operators and their static counterparts at one budget, 2.4 to 3.3 million multiply-adds, on Fashion-MNIST.

    python train.py --config=configs/fashion_mnist_budget.py:mobilenet_v2_condconv --workdir=runs/budget
    python benchmarks/studies/budget.py

Needs Debian's package dataset-fashion-mnist, or the files in another folder: `--config.data.source=idx:/my/folder`.
`benchmarks/studies/budget.py` tunes all variants alike and compares them; results and times: docs/studies.md.

Variants:

- mobilenet_v2: inverted residuals with half of the channels; mobilenet_v2_condconv: its blocks 1 to 6 with 8 experts,
  as published; mobilenet_v2_condconv_zeros: with routing kernels that start at zero; mobilenet_v2_condconv_slow: these
  also learn at a tenth of the learning rate;
- seesaw_shuffle, seesaw_share (v1): point-wise groups of ratio 1:3 in wider inverted residuals;
- shufflenet_v2; shufflenet_v2_drconv_1r and _4r: with 1 region, which is one generated kernel per image, and with 4;
- resnet; lean: twice the channels, 5-point stencils in groups of 4 channels.
"""

from convzoo.configs import fashion_mnist_small
from convzoo.configs.variants import variants

_MOBILENET = {
    "blocks": fashion_mnist_small.BLOCKS,
    "width_coefficient": 0.5,
    "stem_strides": 2,
    "dropout_rate": 0.0,
    "bn_momentum": 0.99,
}
_CONDCONV = {"name": "CondConv", "num_experts": 8, "first_block": 1}
_ZEROS = {**_CONDCONV, "routing_initializer": "zeros"}
SLOW_ROUTING = (("*_routing/*", 0.1),)  # learning-rate multipliers
_SEESAW = {
    "stages": ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 2, 2), (6, 64, 2, 2)),
    "width_coefficient": 0.5,
    "stem_strides": 2,
    "bn_momentum": 0.99,
}
_SHUFFLENET = {
    "widths": (32, 64, 96),
    "repeats": (1, 2, 1),
    "head_filters": 128,
    "stem_strides": 1,
    "bn_momentum": 0.99,
}
_RESNET = {"repeats": (1, 1, 1), "bn_momentum": 0.99}
# Variant: network, overrides, settings of the operator.
_NETWORKS = {
    "mobilenet_v2": ("mobilenet_v2_x1_0", _MOBILENET, {}),
    "mobilenet_v2_condconv": ("mobilenet_v2_x1_0", _MOBILENET, _CONDCONV),
    "mobilenet_v2_condconv_zeros": ("mobilenet_v2_x1_0", _MOBILENET, _ZEROS),
    "mobilenet_v2_condconv_slow": ("mobilenet_v2_x1_0", _MOBILENET, _ZEROS),
    "seesaw_shuffle": ("seesawnet_shuffle_1_0d", _SEESAW, {}),
    "seesaw_share": ("seesawnet_share_v1_1_0d", _SEESAW, {}),
    "shufflenet_v2": ("shufflenet_v2_x0_5", _SHUFFLENET, {}),
    "shufflenet_v2_drconv_1r": ("shufflenet_v2_x0_5", _SHUFFLENET, {"name": "DRConv", "regions": 1}),
    "shufflenet_v2_drconv_4r": ("shufflenet_v2_x0_5", _SHUFFLENET, {"name": "DRConv", "regions": 4}),
    "resnet": ("resnet18_cifar", {**_RESNET, "width_coefficient": 0.125}, {}),
    "lean": (
        "lean_resnet18_cifar",
        {**_RESNET, "width_coefficient": 0.25},
        {"stencil": "5-point", "group_size": 4},
    ),
}


@variants(*_NETWORKS, default="mobilenet_v2")
def get_config(variant):
    """Returns the experiment of a variant."""
    config = fashion_mnist_small.get_config()
    config.model.name, config.model.overrides, config.model.operator = _NETWORKS[variant]
    if variant.endswith("_slow"):
        config.optimizer.lr_multipliers = SLOW_ROUTING
    config.epochs = 6.0
    config.eval_every_epochs = 3.0
    config.checkpoint_every_epochs = 3.0
    return config
