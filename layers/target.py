"""The device that `form="auto"` is chosen for."""

TARGETS = ("cpu", "gpu", "tpu")
_target = "cpu"


def set_target(target):
    """Says which kind of device layers traced from now on will run on.

    The cheapest way to compute a conditional layer on a CPU is the dearest on a TPU, and the other way round, and a
    layer cannot see where its graph will run: a SavedModel for a TPU is traced on a CPU. The program knows, and tells.
    Layers that were traced before keep their form.

    Args:
        target: "cpu", "gpu" or "tpu".

    Raises:
        ValueError: for any other value.
    """
    global _target
    if target not in TARGETS:
        raise ValueError(f"target {target!r} is not known: use one of {', '.join(TARGETS)}")
    _target = target


def get_target():
    """The kind of device that `form="auto"` is chosen for; "cpu" until `set_target` says otherwise."""
    return _target
