"""Networks for faces: MobileFaceNet (arXiv 1804.07573), its form with DRConv, and SeesawFaceNet (arXiv 1908.09124).

They are inverted residuals for aligned faces of 112x112 pixels. A global depthwise convolution takes the place of
global average pooling, and a linear layer returns the embedding, by which faces are compared. The classifier over the
identities of the training set exists only in training: `include_top=False` returns the embedding, float [batch, 1, 1,
channels].

The DRConv paper names face recognition without describing its network. Here both point-wise convolutions of every block
are DRConvs with one mask per block, as in the authors' ShuffleNetV2. In squeeze-and-excitation, SeesawFaceNet has the
activation of its blocks where the authors' code has PReLU.
"""

import keras
from keras import layers

from convzoo.errors import ModelError
from convzoo.models.builder import NetworkBuilder
from convzoo.models.info import ModelInfo, Preprocessing, Reported
from convzoo.models.mbconv import round_filters
from convzoo.models.operators import DRConv, Operator, UnevenGroups
from convzoo.models.papers import DRCONV
from convzoo.models.registry import register_model
from convzoo.models.seesawnet import inverted_residuals

STEM_FILTERS, HEAD_FILTERS = 64, 512
# Expansion ratio, output channels, number of blocks and strides of the first block, per stage.
STAGES = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))


def face_network(
    *,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int],
    stages: tuple[tuple[int, int, int, int], ...] = STAGES,
    width_coefficient: float = 1.0,
    activation: str = "prelu",
    se_ratio: float = 0.0,
    embedding_filters: int = 128,
    operator: Operator | None = None,
    include_top: bool = True,
    features: bool = False,
    dropout_rate: float = 0.0,
    stem_strides: int = 2,
    padding: str = "symmetric",
    bn_momentum: float = 0.9,
    bn_epsilon: float = 1e-5,
    name: str = "face_network",
) -> keras.Model:
    """Builds a network for faces. See `convzoo.models.builder` for the arguments that all builders share.

    Args:
        stages: Expansion ratio, output channels, number of blocks and first strides of each stage.
        width_coefficient: Factor on all channels but those of the embedding, rounded to multiples of 8.
        activation: Activation after all convolutions but linear ones; "prelu" has a slope for each channel.
        se_ratio: Hidden channels of squeeze-and-excitation after the depthwise convolution, as a fraction of its
            channels; 0 for none.
        embedding_filters: Channels of the embedding.

    Raises:
        ModelError: The operator has no effect, or a height or width is unknown.

    Example:
        >>> face_network(num_classes=10, input_shape=(112, 112, 3), include_top=False).output_shape
        (None, 1, 1, 128)
    """
    net = NetworkBuilder(activation, padding, bn_momentum, bn_epsilon, operator)
    images = keras.Input(input_shape, name="images")
    filters = round_filters(STEM_FILTERS, width_coefficient)
    x = net.norm(net.stem(images).conv(images, "stem_conv", filters, 3, stem_strides), "stem")
    x = net.norm(net.depthwise(x, "stem_depthwise_conv", 3), "stem_depthwise")
    x = inverted_residuals(net, x, stages, width_coefficient, expand_activation=True, se_ratio=se_ratio)
    x = net.norm(net.head(x).conv(x, "head_conv", round_filters(HEAD_FILTERS, width_coefficient)), "head")
    size = tuple(x.shape[1:3])
    if None in size:
        raise ModelError(
            f"input_shape={tuple(input_shape)} has an unknown height or width, but {name} ends in a convolution of the "
            "size of its last feature map; use numbers"
        )
    x = layers.DepthwiseConv2D(size, use_bias=False, data_format="channels_last", name="head_global_conv")(x)
    x = net.norm(x, "head_global", activation=False)
    x = net.norm(net.conv(x, "head_embedding_conv", embedding_filters), "head_embedding", activation=False)
    return net.model(images, x, name, num_classes, include_top, features, dropout_rate)


_MOBILE = "MobileFaceNets: Efficient CNNs for Accurate Real-Time Face Verification on Mobile Devices, arXiv 1804.07573"
_SEESAW = "SeesawFaceNets: sparse and robust face verification model for mobile platform, arXiv 1908.09124"
_FACES = {
    "input_size": 112,
    "preprocessing": Preprocessing(
        (127.5, 127.5, 127.5), (128.0, 128.0, 128.0), crop_fraction=1.0, interpolation="bilinear"
    ),
    "num_classes": 85_742,  # identities of the refined MS-Celeb-1M (MS1M)
}
_UNEVEN = {"activation": "silu", "se_ratio": 0.25, "embedding_filters": 512}


def _register(name, paper, params, madds, reported=None, **arguments):
    # Sizes are published without the classifier; a test compares those.
    reported = None if reported is None else Reported(*reported)
    info = ModelInfo(name, "face_networks", paper, params, madds, reported=reported, **_FACES)
    register_model(face_network, info, **arguments)


_register(
    "mobile_facenet",
    _MOBILE,
    12_063_854,
    231_940_352,
    (99.55, "LFW: arXiv 1804.07573, trained with ArcFace on MS1M"),
)
_register("mobile_facenet_drconv", DRCONV, 17_902_574, 287_709_440, operator=DRConv(regions=8))
_register(
    "seesaw_facenet",
    _SEESAW,
    45_354_958,
    189_662_720,
    (99.60, "LFW: arXiv 1908.09124, Seesaw-shuffle"),
    operator=UnevenGroups(ratio=(1, 3), mixing="shuffle"),
    **_UNEVEN,
)
_register(
    "seesaw_facenet_share",
    _SEESAW,
    45_354_958,
    189_662_720,
    (99.55, "LFW: arXiv 1908.09124, Seesaw-share"),
    operator=UnevenGroups(ratio=(1, 3), mixing="share"),
    **_UNEVEN,
)
