"""What every absl program of ours does around its work: read flags, and turn a user's mistake into one line."""

import os
import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging
from ml_collections import config_flags

from convzoo.training.signals import Interrupted

# TensorFlow's start-up chatter would bury our own first line.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# TensorFlow leaves oneDNN off on some processors that gain much from it (scripts/benchmark_layers.py shows how much).
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

USAGE = 2


def run(main: Callable[[], None]) -> None:
    """Runs `main` after parsing the flags. A user's mistake prints one line and exits with status 2.

    Mistakes are bad flags and configs, and ConfigError, DataError and ModelError from `main`; anything else is a fault
    of the program and keeps its traceback. A training whose loss is lost exits with status 3, also with one line; one
    that has no room to write, or has lost another worker or a data server, with 1, and the same command goes on; one
    that was asked to stop with 128 and the signal's number: 143 for SIGTERM, 130 for SIGINT.
    """

    def guarded(arguments):
        if os.environ["KERAS_BACKEND"] != "tensorflow":
            _stop(f"KERAS_BACKEND={os.environ['KERAS_BACKEND']}: our programs need tensorflow; unset it")
        if len(arguments) > 1:
            _stop(f"unexpected argument {arguments[1]!r}; every option is --name=value (see --help)")
        try:
            work()
        except Interrupted as error:
            sys.exit(128 + error.number)
        except KeyboardInterrupt:
            sys.exit(130)

    def work():
        # Imported here: flags are checked, and --help is answered, before TensorFlow takes seconds to start.
        from convzoo.data import DataError
        from convzoo.models import ModelError
        from convzoo.training.config import ConfigError
        from convzoo.training.loop import TrainingError

        if not flags.FLAGS["verbosity"].present:
            # TensorFlow Datasets tells of every file it opens; what a run has to say, it prints.
            logging.set_verbosity(logging.WARNING)
        try:
            main()
        except (ConfigError, DataError, ModelError) as error:
            _stop(str(error))
        except TrainingError as error:
            _stop(str(error), status=error.status)

    app.run(guarded, flags_parser=_parse)


def _parse(arguments, values=flags.FLAGS):
    try:
        return values(arguments)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        _stop(_config_mistake(error))


def _config_mistake(error) -> str:
    """One line from an error that config_flags raised: its own messages span several, traceback included."""
    if isinstance(error, OSError):
        return _unreadable(error)
    if isinstance(error, AttributeError) and error.args and isinstance(error.args[0], KeyError):
        field, *meant = error.args[0].args[0].splitlines()
        return " ".join([f"the config has no field {field} (configs/base.py has them all)", *meant])
    lines = [line.strip() for line in str(error.args[0] if error.args else error).splitlines() if line.strip()]
    return lines[-1] if len(lines) > 1 and "Error whilst parsing" in lines[0] else lines[0]


def _unreadable(error) -> str:
    # Where a field is looked at before the file's absence was told, the absence is the cause.
    lines = [line.strip() for line in str(error.__cause__ or error).splitlines() if line.strip()]
    return f"--config cannot be read: {' '.join(lines[-2:])}"


def _stop(message: str, status: int = USAGE) -> None:
    program = os.path.basename(sys.argv[0])
    print(f"{program}: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)


def define_devices() -> None:
    """Defines the flags that say where to run."""
    flags.DEFINE_string("tpu", "", "'local' on a TPU VM, or a TPU's name; without it GPUs are used, else the CPU.")
    flags.DEFINE_string("tpu_zone", None, "Cloud zone of a named TPU.")
    flags.DEFINE_string("gcp_project", None, "Cloud project of a named TPU.")
    flags.DEFINE_string("devices", "", "'cpu', 'cpu:N' of N logical devices, or 'gpu'; default: GPUs, else the CPU.")


def define_checkpoint() -> None:
    """Defines the flags that say which weights of which run to take."""
    flags.DEFINE_string("workdir", None, "Folder of the run, local or gs://.")
    flags.DEFINE_string(
        "checkpoint", "newest", "newest, best, or the path of a checkpoint; or a .weights.h5 file, without --workdir."
    )
    flags.DEFINE_string("source", None, "Of a .weights.h5 file alone: the data, as config.data.source.")
    flags.DEFINE_string("data_dir", None, "Of a .weights.h5 file alone: where TensorFlow Datasets keeps its files.")
    flags.DEFINE_integer("image_size", None, "Of a .weights.h5 file alone: in pixels.", lower_bound=1)
    flags.DEFINE_enum(
        "weights",
        "auto",
        ["auto", "ema", "raw"],
        "The moving average, or the weights in training; auto: the average if kept.",
    )


def experiment(base):
    """The experiment that the flags of `define_checkpoint` name: that of a run, or of a file of weights.

    Args:
        base: configs/base.py's experiment.
    """
    from convzoo.models.weights import SUFFIX
    from convzoo.training import config, experiment

    values = flags.FLAGS
    if values.checkpoint.endswith(SUFFIX):
        require("source")
        if values.workdir:
            _stop(
                f"--workdir={values.workdir} and --checkpoint={values.checkpoint}: a file needs no run; leave one out"
            )
        return experiment.of_weights(base, values.checkpoint, values.source, values.data_dir, values.image_size)
    for name in ("source", "data_dir", "image_size"):
        if values[name].value is not None:
            _stop(f"--{name} is for a {SUFFIX} file; a run's config has its own, so leave it out")
    require("workdir")
    return config.load(values.workdir)


def connect(workers: bool = False):
    """The devices that the flags of `define_devices` name, connected; of several workers, if it is for a training."""
    from convzoo.training import devices

    values = flags.FLAGS
    return devices.connect(values.tpu, values.devices, values.tpu_zone, values.gcp_project, workers)


def config():
    """The experiment that --config names, locked."""
    require("config")
    return _locked(flags.FLAGS)


def read_config(path: str, overrides: Sequence[str] = ()):
    """The experiment that `train.py --config=path` would train, locked.

    Args:
        path: The config's file, or FILE:VARIANT.
        overrides: Changed fields, as "config.epochs=1".
    """
    values = flags.FlagValues()
    arguments = ["train.py", f"--config={path}", *(f"--{override}" for override in overrides)]
    config_flags.DEFINE_config_file("config", None, "The experiment.", flag_values=values, sys_argv=arguments)
    _parse(arguments, values)
    return _locked(values)


def _locked(values):
    try:
        return values.config.lock()
    except OSError as error:  # config_flags keeps a file's absence to itself until the config is looked at
        _stop(_unreadable(error))


def write_output(path: str, text: str, flag: str = "output") -> None:
    """Writes what a flag asked for, and makes its folder; stops where that cannot be."""
    import tensorflow as tf

    from convzoo.training.config import first_line
    from convzoo.training.files import write_text

    try:
        write_text(path, text)
    except (OSError, tf.errors.OpError) as error:
        _stop(f"cannot write {path!r} ({first_line(error)}); choose another --{flag}")


def check_folder(path: str, flag: str = "output") -> None:
    """Makes the folder that a file will be written to after long work; stops where that cannot be."""
    import tensorflow as tf

    from convzoo.training.config import first_line

    folder = os.path.dirname(path) or "."
    try:
        tf.io.gfile.makedirs(folder)
    except tf.errors.OpError as error:
        _stop(f"cannot make the folder {folder!r} ({first_line(error)}); choose another --{flag}")


def require(*names: str) -> None:
    """Stops unless every flag of `names` was given."""
    for name in names:
        if not flags.FLAGS[name].value:
            _stop(f"--{name} is missing; see --help")
