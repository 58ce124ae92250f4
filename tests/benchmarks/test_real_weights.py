"""Import of real weights: the original evaluation's preprocessing, and errors. The packages are not downloaded here."""

import numpy as np
from helpers import programs
from PIL import Image

from convzoo import models, porting
from convzoo.benchmarks import original_networks, real_weights


def test_every_case_names_a_network_a_source_and_an_original():
    for case in real_weights.CASES:
        assert case.network in models.list_models()
        assert case.source in porting.SOURCES
        assert case.network in original_networks.NETWORKS
        assert case.package.count("==") == 1


def test_preprocessing_is_resize_crop_and_normalization():
    info = models.info("efficientnet_lite0")
    columns = (np.arange(512) // 2).astype(np.uint8)
    image = Image.fromarray(np.broadcast_to(columns[None, :, None], (600, 512, 3)).copy())
    pixels = real_weights.preprocess(image, info, "bilinear")
    assert pixels.shape == (224, 224, 3)
    # 512 columns become 256, of which the middle 224 remain, from column 16 on.
    np.testing.assert_allclose(pixels[100, :, 0] * 128 + 127, np.arange(16, 240), atol=1.0)


def test_usage_errors(tmp_path):
    text = programs.usage_error(programs.run("benchmarks/real_weights.py", f"--markers={tmp_path}/none.md"))
    assert "none.md" in text
    text = programs.usage_error(programs.run("benchmarks/real_weights.py", f"--folder={tmp_path}"))
    assert "torch>=2.6 is not installed" in text
