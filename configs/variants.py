"""Named variants of an experiment: `--config=configs/NAME.py:VARIANT`."""

import functools
import pathlib
from collections.abc import Callable

from ml_collections import ConfigDict

from convzoo.errors import ConfigError


def variants(*names: str, default: str = "") -> Callable:
    """Returns a decorator of `get_config(variant)` that refuses unknown variants and locks the config.

    `get_config.variants` lists the variants.

    Args:
        names: The variants.
        default: Variant that an empty variant stands for. Without a default, `get_config` receives "" itself.

    Raises:
        ConfigError: From the decorated function, for a variant that is not in `names`.
    """

    def decorate(get_config: Callable[[str], ConfigDict]) -> Callable[[str], ConfigDict]:
        file = "/".join(pathlib.Path(get_config.__code__.co_filename).parts[-2:])

        @functools.wraps(get_config)
        def checked(variant: str = "") -> ConfigDict:
            if variant and variant not in names:
                known = f"use one of {', '.join(names)}" if names else "leave it out"
                raise ConfigError(f"{file} has no variant {variant!r}; {known}")
            # A locked config locks its new overrides only when it is locked again.
            return get_config(variant or default).unlock().lock()

        checked.variants = names
        return checked

    return decorate
