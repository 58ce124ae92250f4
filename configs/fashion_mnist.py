"""Small networks on Fashion-MNIST at 32x32.

    apt-get install dataset-fashion-mnist  # Debian; or put the four idx files into a folder
    python train.py --config=configs/fashion_mnist.py --workdir=runs/fashion_mnist
    python eval.py --workdir=runs/fashion_mnist --checkpoint=best --split=test

The last 5,000 training images select the best checkpoint; only `eval.py` uses the test split.
`--config.data.source=idx:/my/folder` selects another folder.

Without a variant: the network of the quickstart. Measured on two CPU cores under other load (TensorFlow 2.21, float32):
13.6 minutes, top-1 88.4 % on the 10,000 test images after 4 epochs.

The variants share one recipe, so that scripts/study.py can compare them; docs/studies.md has the results:

- mobilenet_v1: MobileNetV1 at a quarter of its width; mobilenet_v1_2e, _4e, _8e and _8e_softmax: with CondConv, that
  many experts, and softmax routing;
- shufflenet: ShuffleNetV2 at half of its width; shufflenet_8r: with DRConv and 8 regions; shufflenet_1r: with 1 region,
  which is one generated kernel per image;
- seesaw_shuffle, seesaw_share (v1), igcv3 and mobilenet_v2: the same inverted residuals with point-wise groups of ratio
  1:3 with shuffle, 1:3 without, 1:1, and without groups. Only mobilenet_v2 has an activation after the expansion, and
  only it has no expansion in the first block;
- resnet18: ResNet-18 at a quarter of its width; lean_9, _5, _h, _v and _alternating: LeanResNet-18 with that stencil,
  each also with _g8 and _g16 for groups of 8 and 16 channels instead of 1.
"""

from convzoo.configs import quickstart
from convzoo.configs.variants import variants

_MOBILENET = {"stem_strides": 1, "dropout_rate": 0.1}
_SHUFFLENET = {"stem_strides": 1}
# For small images and a short training: three blocks at 16x16, two at 8x8, three at 4x4.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 2, 2), (6, 64, 2, 2), (6, 96, 1, 1))
_BLOCKS = (
    "r1_k3_s11_e1_i32_o16",
    "r2_k3_s11_e6_i16_o24",
    "r2_k3_s22_e6_i24_o32",
    "r2_k3_s22_e6_i32_o64",
    "r1_k3_s11_e6_i64_o96",
)
_RESNET = {"width_coefficient": 0.25}
_LEAN = {
    f"lean_{short}{suffix}": ("lean_resnet18_cifar", _RESNET, {"stencil": stencil, "group_size": group_size})
    for short, stencil in (
        ("9", "9-point"),
        ("5", "5-point"),
        ("h", "3-point-horizontal"),
        ("v", "3-point-vertical"),
        ("alternating", "3-point-alternating"),
    )
    for suffix, group_size in (("", 1), ("_g8", 8), ("_g16", 16))
}
# Variant: network, overrides, settings of the operator.
_COMPARED = {
    "mobilenet_v1": ("mobilenet_v1_x0_25", _MOBILENET, {}),
    "mobilenet_v1_2e": ("mobilenet_v1_condconv_x0_25", _MOBILENET, {"num_experts": 2}),
    "mobilenet_v1_4e": ("mobilenet_v1_condconv_x0_25", _MOBILENET, {"num_experts": 4}),
    "mobilenet_v1_8e": ("mobilenet_v1_condconv_x0_25", _MOBILENET, {"num_experts": 8}),
    "mobilenet_v1_8e_softmax": (
        "mobilenet_v1_condconv_x0_25",
        _MOBILENET,
        {"num_experts": 8, "routing": "softmax"},
    ),
    "shufflenet": ("shufflenet_v2_x0_5", _SHUFFLENET, {}),
    "shufflenet_1r": ("shufflenet_v2_drconv_x0_5", _SHUFFLENET, {"regions": 1}),
    "shufflenet_8r": ("shufflenet_v2_drconv_x0_5", _SHUFFLENET, {"regions": 8}),
    "seesaw_shuffle": ("seesawnet_shuffle_0_5d", {"stages": _STAGES}, {}),
    "seesaw_share": ("seesawnet_share_v1_0_5d", {"stages": _STAGES}, {}),
    "igcv3": ("igcv3_0_5d", {"stages": _STAGES}, {}),
    "mobilenet_v2": ("mobilenet_v2_x1_0", {"blocks": _BLOCKS, "dropout_rate": 0.0}, {}),
    "resnet18": ("resnet18_cifar", _RESNET, {}),
    **_LEAN,
}


@variants(*_COMPARED)
def get_config(variant):
    """Returns the experiment of a variant; without a variant the quickstart's network on Fashion-MNIST."""
    config = quickstart.get_config()
    config.model.overrides.bn_momentum = 0.99

    config.data.source = "idx:/usr/share/datasets/fashion-mnist"
    config.data.train_split = "train[:55000]"
    config.data.eval_split = "train[55000:]"
    config.data.flip = True

    config.batch_size = 128
    config.eval_batch_size = 512
    config.epochs = 4.0
    config.weight_decay = 1e-5
    config.optimizer.name = "rmsprop"
    config.optimizer.learning_rate = 0.01
    config.schedule.warmup_epochs = 0.5
    config.ema_decay = 0.99
    config.steps_per_loop = 50
    config.eval_every_epochs = 1.0
    config.checkpoint_every_epochs = 1.0
    if variant:
        config.model.name, config.model.overrides, config.model.operator = _COMPARED[variant]
        config.data.crop_area = (0.5, 1.0)
        config.epochs = 2.0
        config.optimizer.name = "sgd"
        config.optimizer.learning_rate = 0.1
        config.schedule.warmup_epochs = 0.25
        config.weight_decay = 1e-4
    return config
