"""The command `convzoo`: the programs of this package by name.

    convzoo train --config=quickstart --workdir=runs/quickstart
    convzoo eval --workdir=runs/quickstart --checkpoint=best --split=test
    convzoo export --workdir=runs/quickstart --checkpoint=best
    convzoo list 'mobilenet*'
    convzoo train --help

`python -m convzoo` is the same command.
"""

import fnmatch
import importlib
import inspect
import os
import signal
import sys

import convzoo
from convzoo.cli import program
from convzoo.errors import ConfigError

_PROGRAMS = {
    "train": "convzoo.train",
    "eval": "convzoo.eval",
    "export": "convzoo.scripts.export",
    "import": "convzoo.scripts.import_weights",
    "classify": "convzoo.scripts.classify",
    "study": "convzoo.scripts.study",
    "show-batch": "convzoo.scripts.show_batch",
    "save-image": "convzoo.scripts.save_image",
    "draw-curves": "convzoo.scripts.draw_curves",
    "lr-range-test": "convzoo.scripts.lr_range_test",
    "draw-detections": "convzoo.scripts.draw_detections",
    "draw-experts": "convzoo.scripts.draw_experts",
    "draw-regions": "convzoo.scripts.draw_regions",
    "draw-segmentation": "convzoo.scripts.draw_segmentation",
    "draw-study": "convzoo.scripts.draw_study",
    "prepare-emoji": "convzoo.scripts.prepare_emoji",
    "tpu-compile": "convzoo.scripts.tpu_compile",
    "tpu-server": "convzoo.scripts.tpu_server",
    "tpu-status": "convzoo.scripts.tpu_status",
    "verify": "convzoo.scripts.verify",
}


def main() -> None:
    """Runs the program that the first argument names."""
    name, arguments = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("help", [])
    sys.argv = [f"convzoo {name}", *arguments]
    if name in _PROGRAMS:
        module = importlib.import_module(_PROGRAMS[name])
        if name == "classify":  # has flags of its own, because it runs without convzoo too
            module.main()
        else:
            program.run(module.main, module.__doc__)
        return
    own = {"list": _list, "info": _info, "help": _help, "--help": _help, "-h": _help, "--version": _version}
    try:
        if name not in own:
            raise ConfigError(f"there is no command {name!r}; use one of {', '.join([*_PROGRAMS, 'list', 'info'])}")
        try:
            inspect.signature(own[name]).bind(*arguments)
        except TypeError as error:
            raise ConfigError(f"{name} does not take the arguments {arguments}; see convzoo help") from error
        own[name](*arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for the flush at exit
        sys.exit(128 + signal.SIGPIPE)
    except (ConfigError, convzoo.errors.ModelError) as error:
        print(f"convzoo: {error}", file=sys.stderr)
        sys.exit(error.exit_status)


def _list(pattern="*"):
    """Prints the names of the networks, of those that match a shell pattern if one is given."""
    names = fnmatch.filter(_models().list_models(), pattern)
    if not names:
        raise ConfigError(f"no network matches {pattern!r}; convzoo list shows all")
    print("\n".join(names))


def _info(name):
    """Prints what is known about a network."""
    import dataclasses

    for field, value in dataclasses.asdict(_models().info(name)).items():
        if value is not None:
            print(f"{field}: {value}")


def _models():
    with program.startup.without_log_messages():
        return importlib.import_module("convzoo.models")


def _help():
    print(__doc__.strip())
    print("\nCommands:")
    for name in _PROGRAMS:
        print(f"  {name}")
    print("  list [PATTERN]  the networks\n  info NETWORK    what is known about a network")


def _version():
    print(f"convzoo {convzoo.__version__}")


if __name__ == "__main__":
    main()
