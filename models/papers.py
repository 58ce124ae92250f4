"""Papers, and the tables of papers, that several families cite."""

CONDCONV = "CondConv: Conditionally Parameterized Convolutions for Efficient Inference, arXiv 1904.04971"
# Baselines and CondConv networks.
CONDCONV_TABLE_1 = "CondConv (arXiv 1904.04971), table 1"
CONDCONV_TABLE_4 = "CondConv (arXiv 1904.04971), table 4"
CONDCONV_WIDTHS = "CondConv (arXiv 1904.04971, version 2), figure of widths and experts, read to 2 M"

DRCONV = "Dynamic Region-Aware Convolution, arXiv 2003.12243"
DRCONV_ABSTRACT = "DRConv (arXiv 2003.12243), abstract"

LEAN = "LeanConvNets: Low-cost Yet Effective Convolutional Neural Networks, arXiv 1910.13157"

SEESAW = "Seesaw-Net: Convolution Neural Network With Uneven Group Convolution, arXiv 1905.03672"
SEESAW_TABLE_3 = "Seesaw-Net (arXiv 1905.03672), table 3"
SEESAW_TABLE_5 = "Seesaw-Net (arXiv 1905.03672), table 5"
