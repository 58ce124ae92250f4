"""Flags, configs, exit statuses and output files of the programs."""

import contextlib
import errno
import gc
import importlib
import inspect
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from convzoo.cli import startup
from convzoo.errors import ConfigError, UserError, first_line
from convzoo.training.signals import Interrupted

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides TensorFlow's log messages at start-up
# TensorFlow leaves oneDNN off on some processors that it makes much faster.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")


_ERROR_LEVEL = 40  # of Python's logging
# Errors of TensorFlow with which a remote file system answers.
_FILE_SYSTEM_ERRORS = (
    *("AbortedError", "DeadlineExceededError", "FailedPreconditionError", "NotFoundError", "PermissionDeniedError"),
    *("UnauthenticatedError", "UnavailableError", "UnimplementedError", "UnknownError"),
)


def run(main: Callable[..., None], description: str | None = None) -> None:
    """Parses the flags, runs `main` and exits with a status that says how it ended.

    A UserError, of `main` or of the flags, is printed as one line and exits with its `exit_status`. An interrupted
    program exits with 128 plus the number of the signal: 143 for SIGTERM, 130 for SIGINT. Other exceptions are bugs of
    the program and keep their traceback.

    Args:
        main: The program. If it has a parameter, it receives the list of arguments that are no flags; otherwise there
            must be none.
        description: What --help shows above the flags; None for the docstring of the running script.
    """
    if any(argument in ("--help", "-help", "-h", "--helpshort") for argument in sys.argv[1:]):
        try:
            print(_help(main, description or sys.modules["__main__"].__doc__), flush=True)
        except BrokenPipeError:  # `| head`
            _exit(0)
        return

    def call_main(arguments):
        if os.environ["KERAS_BACKEND"] != "tensorflow":
            raise ConfigError(f"KERAS_BACKEND={os.environ['KERAS_BACKEND']} is not tensorflow; unset it")
        takes_arguments = bool(inspect.signature(main).parameters)
        if len(arguments) > 1 and not takes_arguments:
            raise ConfigError(f"unexpected argument {arguments[1]!r}; write options as --name=value (see --help)")
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # TensorFlow Datasets logs every file that it opens
        with startup.without_log_messages():
            importlib.import_module("tensorflow").config.list_physical_devices()  # looks for GPUs
        main(*([arguments[1:]] if takes_arguments else ()))
        sys.stdout.flush()  # here, where an error has a message

    try:
        app.run(call_main, flags_parser=_parse)
    except UserError as error:
        print(f"{os.path.basename(sys.argv[0])}: {' '.join(str(error).split())}", file=sys.stderr)
        _exit(error.exit_status)
    except Interrupted as error:
        _exit(128 + error.number)
    except KeyboardInterrupt:
        _exit(130)
    except SystemExit as error:
        if error.code == 1 and any(argument.lstrip("-").startswith("help") for argument in sys.argv[1:]):
            sys.exit(0)  # absl ends --helpfull with 1
        gc.collect()  # ends the threads of iterators in cycles while there still is an interpreter
        raise
    except BrokenPipeError:  # `| head`
        _exit(128 + signal.SIGPIPE)
    except BaseException as error:
        if line := _file_system_error(error):
            print(f"{os.path.basename(sys.argv[0])}: {line}", file=sys.stderr)
        else:
            traceback.print_exc()
        _exit(1)


def _file_system_error(error):
    """Returns a line about an error of a remote file system or of permissions; None for other errors."""
    address = re.search(r"\b(?!https?:)[a-z0-9]+://[^\s'\")]+", str(error))
    if address and "tensorflow" in type(error).__module__ and type(error).__name__ in _FILE_SYSTEM_ERRORS:
        return f"cannot use {address[0]} ({first_line(error)}); check the address, the network and the credentials"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None:
        return f"cannot write to standard output ({error.strerror}); free disk space"
    if isinstance(error, PermissionError) or type(error).__name__ == "PermissionDeniedError":
        return f"permission denied ({first_line(error)}); change the path or its permissions"
    return None


def _help(main, description):
    """Returns the description of a program, its flags, and the fields of --config if it has that flag."""
    modules = flags.FLAGS.flags_by_module_dict()
    own = {
        flag.name: flag
        for module, defined in modules.items()
        if module in (sys.argv[0], main.__module__) or module.startswith("convzoo.")
        for flag in defined
    }
    lines = [description.strip(), "", "Flags:"]
    for name in sorted(own):
        default = "" if own[name].default in (None, "", []) else f" Default: {own[name].default_as_str}."
        lines.append(f"  --{name}: {own[name].help}{default}" if name != "config" else f"  --config: {own[name].help}")
    if "config" in own:
        from convzoo.configs import schema

        lines += ["", "Fields of --config with their defaults; docs/configuration.md says what they mean:"]
        lines += [f"  --config.{name}={value!r}" for name, value in schema.default_values().items()]
    return "\n".join([*lines, "", "--helpfull lists the flags of TensorFlow and absl too."])


def _exit(status):
    """Ends the process at once.

    The traceback of an error holds the iterators of the input pipeline. Their threads may be in Python code, for which
    an interpreter that shuts down would wait for ever, or abort.
    """
    logging.flush()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed, or a pipe without a reader
            stream.flush()
    os._exit(status)


def _parse(arguments, values=flags.FLAGS):
    try:
        _check_encoding(arguments)
        end = arguments.index("--") if "--" in arguments else len(arguments)  # what follows is for another program
        arguments = [*map(_find_config, _join_config(arguments[:end])), *arguments[end:]]
        with _config_file_errors(arguments):
            remaining = values(arguments)
        for name in values:
            # The shell does not expand --workdir=~/x.
            if isinstance(value := values[name].value, str) and value.startswith("~"):
                values[name].value = os.path.expanduser(value)
        return remaining
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise ConfigError(_flag_error(error)) from error


def _check_encoding(arguments):
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(
                f"the argument {os.fsencode(argument)!r} is not UTF-8; rename the file, or set LC_ALL=C.UTF-8"
            ) from error


def _join_config(arguments):
    """Returns the arguments with --config=FILE in place of the two arguments --config FILE."""
    arguments = list(arguments)
    for index, argument in enumerate(arguments[:-1]):
        if argument in ("--config", "-config"):
            arguments[index : index + 2] = [f"--config={arguments[index + 1]}"]
            break
    return arguments


def _find_config(argument):
    """Returns an argument with the path of a config of this package in place of its name: --config=quickstart."""
    match = re.fullmatch(r"(--?config=)([A-Za-z]\w*)(:.*)?", argument)
    if match is None or os.path.isfile(match[2]):
        return argument
    configs = importlib.import_module("convzoo.configs")
    folder = os.path.dirname(configs.__file__)
    path = os.path.join(folder, f"{match[2]}.py")
    if not os.path.exists(path):
        names = sorted(name.removesuffix(".py") for name in os.listdir(folder) if name.endswith(".py"))
        known = ", ".join(name for name in names if name not in configs.NOT_EXPERIMENTS)
        raise ConfigError(f"there is no config {match[2]!r}; use the path of a file or one of {known}")
    return f"{match[1]}{path}{match[3] or ''}"


@contextlib.contextmanager
def _config_file_errors(arguments):
    """Raises ConfigError for an exception of any kind, or an exit, from inside the file that --config names."""
    paths = [argument.partition("=")[2] for argument in arguments if re.match("--?config=", argument)]
    path = paths[-1].partition(":")[0] if paths else None
    logger = logging.get_absl_logger()
    logger.addFilter(_is_error)  # config_flags warns of a file that returns None, which has a message below
    try:
        yield
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if _is_file(frame.filename, path)]
        if isinstance(error, SyntaxError) and _is_file(error.filename, path):
            lines.append(error.lineno)
        if not lines:
            raise
        reason = "exits" if isinstance(error, SystemExit) else f"raises {type(error).__name__}: {first_line(error)}"
        raise ConfigError(f"the config file {path!r} {reason} (line {lines[-1]}); correct it") from error
    finally:
        logger.removeFilter(_is_error)


def _is_error(record):
    return record.levelno >= _ERROR_LEVEL


def _is_file(name, path):
    return bool(name and path) and os.path.realpath(name) == os.path.realpath(path)


def _flag_error(error) -> str:
    """Returns the line of an error of absl or config_flags that says what is wrong; theirs can contain a traceback."""
    if isinstance(error, OSError):
        return _config_file_error(error)
    if isinstance(error, AttributeError) and error.args and isinstance(error.args[0], KeyError):
        field, *suggestion = error.args[0].args[0].splitlines()
        advice = 'see configs/fields.py, and for settings that the file does not list --config.model.operator="{...}"'
        return " ".join([f"the config has no field {field} ({advice})", *suggestion])
    lines = [line.strip() for line in str(error.args[0] if error.args else error).splitlines() if line.strip()]
    return lines[-1] if len(lines) > 1 and "Error whilst parsing" in lines[0] else lines[0]


def _config_file_error(error) -> str:
    # The cause of an error about an overridden field can be that the file does not exist.
    lines = [line.strip() for line in str(error.__cause__ or error).splitlines() if line.strip()]
    return f"cannot read --config: {' '.join(lines[-2:])}"


def define_devices() -> None:
    """Defines the flags of `connect`."""
    flags.DEFINE_string("tpu", "", "'local' on a TPU VM, or the name of a TPU. Default: the GPUs, else the CPU.")
    flags.DEFINE_string("tpu_zone", None, "Cloud zone of a TPU given by name.")
    flags.DEFINE_string("gcp_project", None, "Cloud project of a TPU given by name.")
    flags.DEFINE_string("devices", "", "'cpu', 'cpu:N' for N logical devices, or 'gpu'. Default: GPUs, else the CPU.")


def connect(workers: bool = False):
    """Connects the devices that the flags of `define_devices` name and returns `training.devices.Devices`.

    Args:
        workers: Whether the program can be one of several workers, as training can.
    """
    from convzoo.training import devices

    values = flags.FLAGS
    return devices.connect(values.tpu, values.devices, values.tpu_zone, values.gcp_project, workers)


def define_checkpoint() -> None:
    """Defines the flags that select a run and its weights, for `config_of_checkpoint`."""
    flags.DEFINE_string("workdir", None, "Folder of the run, local or gs://.")
    flags.DEFINE_string(
        "checkpoint", "newest", "newest, best or the path of a checkpoint; or a .weights.h5 file without --workdir."
    )
    flags.DEFINE_string("source", None, "With a .weights.h5 file: data source, as config.data.source.")
    flags.DEFINE_string("data_dir", None, "With a .weights.h5 file: folder of TensorFlow Datasets.")
    flags.DEFINE_integer("image_size", None, "With a .weights.h5 file: image size in pixels.", lower_bound=1)
    flags.DEFINE_multi_string(
        "override",
        [],
        "Override of a field that does not change the training, as config.detection.score_threshold=0.3; repeatable.",
    )
    flags.DEFINE_enum(
        "weights",
        "auto",
        ["auto", "ema", "raw"],
        "ema: moving average; raw: trained weights; auto: moving average if the checkpoint has one.",
    )


def load_checkpoint(config: ConfigDict, devices):
    """Opens the data of a run or file of weights, and loads the weights that the flags of `define_checkpoint` select.

    Returns:
        The data source, the network, and the path of the checkpoint.
    """
    from convzoo.training import checkpoints, experiment
    from convzoo.training.workdir import verify_classes

    values = flags.FLAGS
    source = experiment.open_source(config)
    if values.workdir:
        verify_classes(values.workdir, source.class_names)
    with devices.strategy.scope():
        model = experiment.build_model(config, source.num_classes)
        path, *_ = checkpoints.load(values.workdir, values.checkpoint, model, values.weights)
    return source, model, path


def config_of_checkpoint(needs_source: bool = True) -> ConfigDict:
    """Returns the locked config of the run or `.weights.h5` file that the flags of `define_checkpoint` select.

    Args:
        needs_source: Whether a `.weights.h5` file requires --source.
    """
    from convzoo.models.weights import SUFFIX
    from convzoo.training import experiment, workdir

    values = flags.FLAGS
    if values.checkpoint.endswith(SUFFIX):
        if values.workdir:
            raise ConfigError(
                f"--workdir={values.workdir} and --checkpoint={values.checkpoint} exclude each other; use one"
            )
        if values.override:
            raise ConfigError(f"--override={values.override[0]} applies to a run, not to a {SUFFIX} file; leave it out")
        if needs_source:
            require("source")
        return experiment.config_for_weights(values.checkpoint, values.source, values.data_dir, values.image_size)
    for name in ("source", "data_dir", "image_size"):
        if values[name].value is not None:
            raise ConfigError(f"--{name} applies to a {SUFFIX} file, and a run has it in its config; leave it out")
    require("workdir")
    return _with_overrides(workdir.load_config(values.workdir), values.override)


def _with_overrides(config, overrides):
    """Returns the config of a run with other values of fields that do not change its training."""
    from convzoo.configs import schema

    known = schema.fields_that_may_change()
    for text in overrides:
        if text.partition("=")[0].removeprefix("config.") not in known:
            raise ConfigError(
                f"--override={text} would change the training; use config.FIELD=VALUE with one of {', '.join(known)}"
            )
    if not overrides:
        return config
    values = flags.FlagValues()
    arguments = [sys.argv[0], *(f"--{text}" for text in overrides)]
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=arguments)
    _parse(arguments, values)
    schema.validate(values.config, num_replicas=1)
    return values.config


def config() -> ConfigDict:
    """Returns the locked config that --config selects, with the fields overridden on the command line."""
    if not flags.FLAGS["config"].present:
        raise ConfigError("--config is missing; see --help")
    return _lock(flags.FLAGS)


def read_config(path: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Returns the locked config that `train.py --config=path` would use.

    Args:
        path: The config file, or FILE:VARIANT.
        overrides: Overridden fields, such as "config.epochs=1".

    Raises:
        ConfigError: The file cannot be read, or a field does not exist.
    """
    values = flags.FlagValues()
    arguments = ["train.py", f"--config={path}", *(f"--{override}" for override in overrides)]
    config_flags.DEFINE_config_file("config", None, "The experiment.", flag_values=values, sys_argv=arguments)
    _parse(arguments, values)
    return _lock(values)


def _lock(values):
    try:
        with _config_file_errors(sys.argv[1:]):
            config = values.config
        return config.lock()
    except OSError as error:  # config_flags reports a missing file only when the config is used
        raise ConfigError(_config_file_error(error)) from error
    except AttributeError as error:
        raise ConfigError(
            f"get_config of the config file returns {type(config).__name__}; return the ConfigDict of configs/base.py"
        ) from error


def require(*names: str) -> None:
    """Raises ConfigError unless every flag in `names` is set."""
    for name in names:
        if not flags.FLAGS[name].value:
            raise ConfigError(f"--{name} is missing; see --help")


def write_output(path: str, text: str, flag: str = "output") -> None:
    """Writes the text file that --`flag` names and creates its folder. Raises ConfigError if that fails."""
    import tensorflow as tf

    from convzoo import files

    try:
        files.write_output(path, text.encode())
    except (OSError, tf.errors.OpError) as error:
        raise ConfigError(f"cannot write {path!r} ({first_line(error)}); choose another --{flag}") from error


def check_folder(path: str, flag: str = "output") -> None:
    """Creates the folder of the file that --`flag` names, before long work. Raises ConfigError if that fails."""
    import tensorflow as tf

    folder = os.path.dirname(path) or "."
    try:
        tf.io.gfile.makedirs(folder)
    except tf.errors.OpError as error:
        raise ConfigError(
            f"cannot create the folder {folder!r} ({first_line(error)}); choose another --{flag}"
        ) from error
