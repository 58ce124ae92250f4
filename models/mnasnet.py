"""MnasNet-A1 (arXiv 1807.11626) and CondConv-MnasNet-A1 (arXiv 1904.04971, section 4.1).

Padding and epsilon are TensorFlow's, in which their authors trained; weights from PyTorch need padding="symmetric" and
bn_epsilon=1e-5.
"""

from convzoo.models.info import ModelInfo, Published, Reported
from convzoo.models.mbconv import mbconv_network
from convzoo.models.operators import CondConv
from convzoo.models.papers import CONDCONV, CONDCONV_TABLE_1
from convzoo.models.registry import register_model

BLOCKS = (
    "r1_k3_s11_e1_i32_o16",
    "r2_k3_s22_e6_i16_o24",
    "r3_k5_s22_e3_i24_o40_se0.25",
    "r4_k3_s22_e6_i40_o80",
    "r2_k3_s11_e6_i80_o112_se0.25",
    "r3_k5_s22_e6_i112_o160_se0.25",
    "r1_k3_s11_e6_i160_o320",
)
_PAPER = "MnasNet: Platform-Aware Neural Architecture Search for Mobile, arXiv 1807.11626"
_NOTE = "only the last three stages are conditional; a conditional classifier would add 10 M more than published"


def _register(name, paper, params, madds, top1, published, **arguments):
    info = ModelInfo(
        name, "mnasnet", paper, params, madds, reported=Reported(top1, CONDCONV_TABLE_1), published=published
    )
    register_model(
        mbconv_network,
        info,
        blocks=BLOCKS,
        activation="relu",
        **arguments,
    )


_register("mnasnet_a1", _PAPER, 3_887_038, 311_579_072, 74.9, Published(None, 312e6, CONDCONV_TABLE_1))
_register(
    "mnasnet_a1_condconv",
    CONDCONV,
    14_984_718,
    324_261_184,
    76.2,
    Published(None, 325e6, CONDCONV_TABLE_1, _NOTE),
    operator=CondConv(num_experts=8, first_block=10),  # the last three of seven stages
)
