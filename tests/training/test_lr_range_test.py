"""The learning-rate range test: smoothing and suggestion against formulas, and a test of a tiny network."""

import numpy as np
import pytest
from helpers import tiny

from convzoo.training.devices import connect
from convzoo.training.lr_range_test import lr_range_test, smooth, suggest


def test_smoothing_is_a_weighted_mean():
    losses = np.random.default_rng(0).normal(size=30)
    for count, value in enumerate(smooth(losses), start=1):
        weights = 0.98 ** np.arange(count)[::-1]
        assert value == pytest.approx(np.average(losses[:count], weights=weights))


def test_suggestion_is_where_the_loss_falls_fastest():
    rates = np.geomspace(1e-6, 1.0, 100)
    losses = 2.0 - np.tanh(2 * (np.log10(rates) + 2.5))  # steepest at 10^-2.5
    losses[:9] -= np.arange(9)  # the first tenth does not count
    assert suggest(rates, losses, 100) == pytest.approx(10**-2.5, rel=0.15)
    assert suggest(rates, np.linspace(1, 2, 100), 100) is None
    assert suggest(rates[:16], losses[:16], 100) is None


def test_tiny_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tiny.get_config("regions")
    result = lr_range_test(config, connect(devices="cpu"), start_lr=1e-5, end_lr=1e3, num_steps=20)
    assert 0 < len(result.losses) == len(result.learning_rates) == len(result.smoothed_losses) <= 20
    np.testing.assert_allclose(result.learning_rates, np.geomspace(1e-5, 1e3, 20)[: len(result.losses)], rtol=1e-4)
    assert result.smoothed_losses == smooth(result.losses)
    assert result.suggestion == suggest(result.learning_rates, result.smoothed_losses, 20)
    assert config.ema_decay == 0.9
    assert not list(tmp_path.iterdir())
