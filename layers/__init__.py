"""Layers that replace an ordinary convolution. Keras 3 alone, any of its backends."""

from convzoo.layers.bilinear_resize import BilinearResize
from convzoo.layers.channel_shuffle import ChannelShuffle
from convzoo.layers.channel_split import ChannelSplit
from convzoo.layers.cond_conv2d import CondConv2D
from convzoo.layers.cond_dense import CondDense
from convzoo.layers.cosine_dense import CosineDense
from convzoo.layers.depthwise_cond_conv2d import DepthwiseCondConv2D
from convzoo.layers.dr_conv2d import DRConv2D
from convzoo.layers.expert_routing import ExpertRouting
from convzoo.layers.guided_mask import GuidedMask
from convzoo.layers.lean_conv2d import LeanConv2D
from convzoo.layers.target import get_target, set_target
from convzoo.layers.uneven_pointwise_conv2d import UnevenPointwiseConv2D

__all__ = [
    "BilinearResize",
    "ChannelShuffle",
    "ChannelSplit",
    "CondConv2D",
    "CondDense",
    "CosineDense",
    "DRConv2D",
    "DepthwiseCondConv2D",
    "ExpertRouting",
    "GuidedMask",
    "LeanConv2D",
    "UnevenPointwiseConv2D",
    "get_target",
    "set_target",
]
