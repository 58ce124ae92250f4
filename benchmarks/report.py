"""Reports of the benchmarks: what was run where, Markdown tables, and files."""

import datetime
import json
import os
import platform
import shlex
import statistics
import sys

import tabulate
from absl import flags

from convzoo.cli import program

_LIBRARIES = ("tensorflow", "keras", "torch", "timm")


def define_output() -> None:
    """Defines the flag --output of `finish`."""
    flags.DEFINE_string("output", None, "Also writes OUTPUT.md and OUTPUT.json.")


def start(script: str, **settings) -> dict:
    """Returns the beginning of a report: command, time, versions of the imported libraries, machine, and `settings`.

    Args:
        script: Path of the benchmark in the repository.
        **settings: What the benchmark was run with, as JSON values.
    """
    import convzoo

    versions = {"python": platform.python_version(), "convzoo": convzoo.__version__}
    versions |= {name: sys.modules[name].__version__ for name in _LIBRARIES if name in sys.modules}
    return {
        "command": shlex.join(["python", script, *sys.argv[1:]]),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions,
        "processor": platform.machine(),
        "cores": num_cores(),
        "onednn": os.environ["TF_ENABLE_ONEDNN_OPTS"],
        "load_at_start": os.getloadavg()[0],
        **settings,
    }


def num_cores() -> int:
    """Returns the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def table(rows: list[dict], left: int = 1) -> str:
    """Returns rows, dicts of column to text, as a Markdown table whose first `left` columns are aligned left."""
    columns = list(rows[0])
    align = [*["left"] * left, *["right"] * (len(columns) - left)]
    return tabulate.tabulate(rows, "keys", "pipe", disable_numparse=True, colalign=align)


def caption(report: dict, *facts: str) -> str:
    """Returns a line with `facts`, machine, load, versions, date and command."""
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    machine = f"{report['cores']} {report['processor']} cores, TF_ENABLE_ONEDNN_OPTS={report['onednn']}"
    load = f"load {report['load_at_start']:.1f} before and {report['load_at_end']:.1f} after"
    return f"{'; '.join((*facts, machine, load, versions))}; {report['time'][:10]}. `{report['command']}`"


def finish(report: dict, tables: list[str], *facts: str) -> None:
    """Prints the caption. With --output, writes tables and caption to OUTPUT.md and the report to OUTPUT.json."""
    report["load_at_end"] = os.getloadavg()[0]
    line = caption(report, *facts)
    print(f"\n{line}")
    if output := flags.FLAGS.output:
        program.write_output(f"{output}.md", "\n\n".join([*tables, line]) + "\n")
        program.write_output(f"{output}.json", json.dumps(report, indent=2) + "\n")


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Returns lower quartile, median and upper quartile."""
    if len(values) < 2:
        return (values[0],) * 3
    return tuple(statistics.quantiles(values, method="inclusive"))


def dates_and_versions(records: list[dict]) -> str:
    """Returns the range of dates and the versions of records of the TPU compiler."""
    dates = sorted({record["date"] for record in records})
    versions = sorted({"jax {jax}, libtpu {libtpu}".format(**record["versions"]) for record in records})
    span = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return f"{span}; {'; '.join(versions)}"
