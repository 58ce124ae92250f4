"""The device for which `implementation="auto"` chooses."""

TARGETS = ("cpu", "gpu", "tpu", "lite")
_target = "cpu"


def set_target(target: str) -> None:
    """Sets the kind of device for which layers with `implementation="auto"` choose their implementation.

    The fastest implementation on CPU is often the slowest on TPU, and a layer cannot see where its graph will run: a
    SavedModel for TPU is traced on a CPU. Functions traced before the call keep their implementations.

    Args:
        target: "cpu", "gpu", "tpu", or "lite" for the LiteRT and ONNX runtimes: operations that these have and can
            compute in int8.

    Raises:
        ValueError: target is unknown.

    Example:
        >>> set_target("tpu")
        >>> get_target()
        'tpu'
        >>> set_target("cpu")
    """
    global _target
    if target not in TARGETS:
        raise ValueError(f"target={target!r} is unknown; use one of {', '.join(TARGETS)}")
    _target = target


def get_target() -> str:
    """Returns the kind of device that `set_target` set; "cpu" by default.

    Example:
        >>> get_target()
        'cpu'
    """
    return _target
