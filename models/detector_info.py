"""Facts about published detectors, and the arguments that build them."""

import dataclasses
import fnmatch
from typing import Any

from convzoo.errors import ModelError

_SSD = "SSD: Single Shot MultiBox Detector, arXiv 1512.02325"
_CONDCONV = "CondConv: Conditionally Parameterized Convolutions for Efficient Inference, arXiv 1904.04971"
_TENSORFLOW = "TensorFlow Object Detection API, ssd_mobilenet_v1_{} 300x300 on COCO 2014, 8,000 validation images"


@dataclasses.dataclass(frozen=True)
class DetectorInfo:
    """Facts about one detector.

    Attributes:
        name: The name that `create_detector` takes.
        backbone: Name of the backbone.
        paper: Title and arXiv number of the paper that published the detector.
        input_size: Published height and width in pixels.
        num_classes: Published number of classes, without background.
        reported: Reported mean average precision on COCO in percent, or None. convzoo did not measure it.
        source: Who reported it.
        settings: Arguments of `create_detector`.
    """

    name: str
    backbone: str
    paper: str
    input_size: int = 300
    num_classes: int = 90
    reported: float | None = None
    source: str = ""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)


def _ssd300(network, paper, reported=None, source=""):
    name = f"ssd300_{network}"
    settings = {"bn_momentum": 0.97, "bn_epsilon": 1e-3}
    return DetectorInfo(name, network, paper, reported=reported, source=source, settings=settings)


_DETECTORS = {
    info.name: info
    for info in (
        _ssd300("mobilenet_v1_x0_5", _SSD),
        _ssd300("mobilenet_v1_x0_75", _SSD, 17.5, _TENSORFLOW.format("0.75")),
        _ssd300("mobilenet_v1_x1_0", _SSD, 20.5, _TENSORFLOW.format("1.0")),
        _ssd300("mobilenet_v1_condconv_x0_5", _CONDCONV),
        _ssd300("mobilenet_v1_condconv_x0_75", _CONDCONV),
        _ssd300(
            "mobilenet_v1_condconv_x1_0",
            _CONDCONV,
            22.4,
            "the paper's abstract, which reports 20.3 for the static network",
        ),
    )
}


def list_detectors(pattern: str = "*") -> list[str]:
    """Returns the sorted names of the published detectors that match a shell pattern.

    Example:
        >>> from convzoo import models
        >>> models.list_detectors("*condconv*x1_0")
        ['ssd300_mobilenet_v1_condconv_x1_0']
    """
    return sorted(fnmatch.filter(_DETECTORS, pattern))


def detector_info(name: str) -> DetectorInfo:
    """Returns the facts about a published detector.

    Raises:
        ModelError: There is no such detector.

    Example:
        >>> from convzoo import models
        >>> models.detector_info("ssd300_mobilenet_v1_condconv_x1_0").reported
        22.4
    """
    if name not in _DETECTORS:
        raise ModelError(f"unknown detector {name!r}; known: {', '.join(sorted(_DETECTORS))}")
    return _DETECTORS[name]
