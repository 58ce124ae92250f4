"""The baseline of every network of the papers."""

# The baseline network, and the networks that replace its convolutions.
BASELINES = {
    "efficientnet_b0": (
        "efficientnet_condconv_b0_8e", "efficientnet_condconv_b0_4e", "efficientnet_condconv_b0_8e_depth",
    ),
    "shufflenet_v2_x0_5": ("shufflenet_v2_drconv_x0_5",),
    "resnet34": ("lean_resnet34",),
    "mobilenet_v2_x1_0": (
        "seesawnet_shuffle_1_0d", "seesawnet_share_v0_1_0d", "seesawnet_share_v1_1_0d", "igcv3_1_0d",
        "seesawnet_shuffle_0_5d", "seesawnet_share_v0_0_5d", "seesawnet_share_v1_0_5d", "igcv3_0_5d",
        "mobilenet_v2_condconv_x1_0", "mobilenet_v2_drconv_x1_0",
    ),
    "mobilenet_v1_x0_25": ("mobilenet_v1_condconv_x0_25", "mobilenet_v1_drconv_x0_25"),
    "mobilenet_v1_x0_5": ("mobilenet_v1_condconv_x0_5", "mobilenet_v1_drconv_x0_5"),
    "mobilenet_v1_x0_75": ("mobilenet_v1_condconv_x0_75", "mobilenet_v1_drconv_x0_75"),
    "mobilenet_v1_x1_0": ("mobilenet_v1_condconv_x1_0", "mobilenet_v1_drconv_x1_0"),
    "shufflenet_v2_x1_0": ("shufflenet_v2_drconv_x1_0",),
    "shufflenet_v2_x1_5": ("shufflenet_v2_drconv_x1_5",),
    "shufflenet_v2_x2_0": ("shufflenet_v2_drconv_x2_0",),
    "mnasnet_a1": ("mnasnet_a1_condconv",),
    "resnet18": ("lean_resnet18",),
    "resnet50": ("lean_resnet50", "resnet50_condconv"),
    "mobilenet_v2_x1_0_cifar": (
        "seesawnet_shuffle_1_0d_cifar", "seesawnet_share_v0_1_0d_cifar", "seesawnet_share_v1_1_0d_cifar",
        "seesawnet_shuffle_0_5d_cifar", "seesawnet_share_v0_0_5d_cifar", "seesawnet_share_v1_0_5d_cifar",
        "igcv3_1_0d_cifar", "igcv3_0_5d_cifar",
    ),
    "resnet18_cifar": ("lean_resnet18_cifar",),
    "resnet34_cifar": ("lean_resnet34_cifar",),
    "resnet50_cifar": ("lean_resnet50_cifar",),
}  # fmt: skip
