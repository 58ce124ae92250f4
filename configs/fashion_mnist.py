"""Small networks on Fashion-MNIST at 32x32.

    apt-get install dataset-fashion-mnist      # Debian; or put the four idx files into a folder of your own
    python train.py --config=configs/fashion_mnist.py --workdir=runs/fashion_mnist
    python eval.py --workdir=runs/fashion_mnist --checkpoint=best --split=test

The best checkpoint is chosen on the last 5,000 training pictures; the test split is only for `eval.py`. Another folder:
`--config.data.source=idx:/my/folder`.

Without a variant it is the quickstart's network. Seen on two CPU cores that did other work besides (TensorFlow 2.21,
float32): 13.6 minutes, 88.4 % of the 10,000 test pictures right after 4 epochs.

Variants, which share one recipe, so that scripts/study.py can compare them. The README has the tables with their
commands:

- mobilenet_v1, MobileNetV1 at a quarter of its width; mobilenet_v1_2e, _4e, _8e and _8e_softmax, its CondConv form with
  so many experts and with a softmax for routing;
- shufflenet, ShuffleNetV2 at half of its width; shufflenet_8r, its DRConv form with 8 regions; shufflenet_1r, the same
  with one, which is one kernel an image;
- seesaw_shuffle, seesaw_share (v1), igcv3 and mobilenet_v2: the same few inverted residuals with point-wise groups of
  1:3, with and without shuffle, of 1:1, and with none. MobileNetV2 has an activation after its expansion besides, which
  the others have not, and no expansion in its first block;
- resnet18, ResNet-18 at a quarter of its width; lean_9, _5, _h, _v and _alternating, its lean form with those stencils,
  each also with _g8 and _g16 for groups of 8 and 16 channels in the place of one.
"""

from convzoo.configs import quickstart

_MOBILENET = {"stem_strides": 1, "dropout_rate": 0.1}
_SHUFFLENET = {"stem_strides": 1}
# Small pictures and a small budget: three blocks at 16x16, two at 8x8, three at 4x4.
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
    f"lean_{short}{ending}": ("lean_resnet18_cifar", {**_RESNET, "stencil": stencil, "group_size": group_size})
    for short, stencil in (
        ("9", "9-point"),
        ("5", "5-point"),
        ("h", "3-point-horizontal"),
        ("v", "3-point-vertical"),
        ("alternating", "3-point-alternating"),
    )
    for ending, group_size in (("", 1), ("_g8", 8), ("_g16", 16))
}
# Variant: network and overrides.
_COMPARED = {
    "mobilenet_v1": ("mobilenet_v1_x0_25", _MOBILENET),
    "mobilenet_v1_2e": ("mobilenet_v1_condconv_x0_25", {**_MOBILENET, "num_experts": 2}),
    "mobilenet_v1_4e": ("mobilenet_v1_condconv_x0_25", {**_MOBILENET, "num_experts": 4}),
    "mobilenet_v1_8e": ("mobilenet_v1_condconv_x0_25", {**_MOBILENET, "num_experts": 8}),
    "mobilenet_v1_8e_softmax": (
        "mobilenet_v1_condconv_x0_25",
        {**_MOBILENET, "num_experts": 8, "routing": "softmax"},
    ),
    "shufflenet": ("shufflenet_v2_x0_5", _SHUFFLENET),
    "shufflenet_1r": ("shufflenet_v2_drconv_x0_5", {**_SHUFFLENET, "regions": 1}),
    "shufflenet_8r": ("shufflenet_v2_drconv_x0_5", {**_SHUFFLENET, "regions": 8}),
    "seesaw_shuffle": ("seesawnet_shuffle_0_5d", {"stages": _STAGES}),
    "seesaw_share": ("seesawnet_share_v1_0_5d", {"stages": _STAGES}),
    "igcv3": ("igcv3_0_5d", {"stages": _STAGES}),
    "mobilenet_v2": ("mobilenet_v2_x1_0", {"blocks": _BLOCKS, "dropout_rate": 0.0}),
    "resnet18": ("resnet18_cifar", _RESNET),
    **_LEAN,
}
VARIANTS = ("", *_COMPARED)


def get_config(variant: str = ""):
    """The experiment of one of VARIANTS."""
    if variant not in VARIANTS:
        raise ValueError(f"configs/fashion_mnist.py has no variant {variant!r}; known: {', '.join(VARIANTS[1:])}")
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
        config.model.name, overrides = _COMPARED[variant]
        with config.unlocked():
            config.model.overrides = overrides
        config.data.crop_area = (0.5, 1.0)
        config.epochs = 2.0
        config.optimizer.name = "sgd"
        config.optimizer.learning_rate = 0.1
        config.schedule.warmup_epochs = 0.25
        config.weight_decay = 1e-4
    return config
