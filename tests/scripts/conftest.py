"""What tests of several scripts share."""

import pytest


@pytest.fixture
def broken_compiler(tmp_path):
    """An environment in which the TPU compiler's process ends without an answer."""
    broken = tmp_path / "broken"
    (broken / "jax").mkdir(parents=True)
    (broken / "jax" / "__init__.py").write_text("raise RuntimeError('no JAX today')\n")
    return {"PYTHONPATH": str(broken)}
