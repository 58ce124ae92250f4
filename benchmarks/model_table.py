"""Prints one row a network: parameters and multiply-adds computed here, and beside them what was published.

    python benchmarks/model_table.py
    python benchmarks/model_table.py --models='*condconv*'
    python benchmarks/model_table.py --markers=docs/models.md

The networks are built and counted (`convzoo.models.count`) at their published size, for their published classes.
"Printed" is what the paper or its authors print of the same figure, top-1 what others reported; the numbers in brackets
name the source.
A second table has CondConv's own ablations. --markers also writes all of it into a Markdown file, between the lines
<!-- model_table --> and <!-- /model_table -->.
"""

import importlib
import pathlib

import tabulate
from absl import flags

from convzoo.cli import program
from convzoo.errors import ConfigError

MODELS = flags.DEFINE_string("models", "*", "Names of networks, with shell wildcards.")
MARKERS = flags.DEFINE_string("markers", None, "Markdown file to write into as well; needs all networks.")
NAME = "model_table"


def main():
    from convzoo import models
    from convzoo.benchmarks import ablations
    from convzoo.cli.markdown import check_markers, write_between

    names = models.list_models(MODELS.value)
    if not names:
        raise ConfigError(f"--models={MODELS.value} names no network; see convzoo.models.list_models()")
    if MARKERS.value:
        if MODELS.value != "*":
            raise ConfigError("--markers writes the whole table; leave out --models")
        check_markers(MARKERS.value, NAME)
    text = network_table(names)
    if ablations.NETWORK in names:
        text += "\n" + ablation_table()
    print(text, end="")
    if MARKERS.value:
        write_between(MARKERS.value, NAME, text)


def network_table(names: list[str]) -> str:
    """The table of the networks `names` in Markdown, with its sources and notes."""
    from convzoo import models
    from convzoo.cli.markdown import quantity

    sources, notes, rows, recipes = {}, {}, [], _recipes()

    def source(text):
        return f"[{sources.setdefault(text, len(sources) + 1)}]"

    for name in names:
        info = models.info(name)
        counted = models.count(models.create_model(name))
        published = info.published
        printed = {}
        if published:
            mark = source(published.source)
            for key in ("params", "madds"):
                value = getattr(published, key)
                printed[key] = f"{_printed(value)} {mark}" if value else ""
            if published.note:
                notes.setdefault(published.note, []).append(name)
        rows.append(
            {
                "network": name,
                "parameters": f"{counted.params:,}",
                "printed": printed.get("params", ""),
                "multiply-adds": quantity(counted.madds),
                "printed ": printed.get("madds", ""),
                "input": info.input_size,
                "classes": info.num_classes,
                "reported top-1": f"{info.reported.top1:g} {source(info.reported.source)}" if info.reported else "",
                "config": recipes.get(name, ""),
            }
        )
    align = ("left", *["right"] * 7, "left")
    lines = [tabulate.tabulate(rows, "keys", "pipe", disable_numparse=True, colalign=align), ""]
    lines += [f"[{number}] {text}.  " for text, number in sources.items()]
    if notes:
        lines += ["", *(f"- {', '.join(of)}: {note}." for note, of in notes.items())]
    return "\n".join(lines) + "\n"


def ablation_table() -> str:
    """CondConv's tables 3 and 4 in Markdown, with the multiply-adds computed here beside the paper's."""
    from convzoo import models
    from convzoo.benchmarks import ablations
    from convzoo.cli.markdown import quantity

    rows = []
    for row in ablations.ABLATIONS:
        counted = models.count(models.create_model(ablations.NETWORK, operator={**ablations.BASELINE, **row.operator}))
        rows.append(
            {
                "table": row.table,
                "row": row.row,
                "parameters": f"{counted.params:,}",
                "multiply-adds": quantity(counted.madds),
                "printed": f"{row.madds / 1e6:.1f} M",
                "reported top-1": f"{row.top1:.1f}",
                "operator": ", ".join(f"{key}={value!r}" for key, value in row.operator.items()),
            }
        )
    experts = ", ".join(f"{key}={value}" for key, value in ablations.BASELINE.items())
    align = ("right", "left", *["right"] * 4, "left")
    return (
        f"CondConv's ablations: {ablations.NETWORK} with {experts} and the settings of the row; printed and reported "
        "in its tables 3 and 4.\n\n"
        f"{tabulate.tabulate(rows, 'keys', 'pipe', disable_numparse=True, colalign=align)}\n\n{ablations.NOTE}\n"
    )


def _printed(number):
    """With the digits that were printed."""
    return f"{number:,}" if number % 1000 else f"{number / 1e6:g} M" if number < 1e9 else f"{number / 1e9:g} G"


def _recipes():
    """Networks by name, with the config that trains each as published: at its own size."""
    found = {}
    folder = pathlib.Path(__file__).resolve().parent.parent / "configs"
    for path in (*sorted(folder.glob("*_imagenet.py")), *sorted(folder.glob("*_cifar.py"))):
        module = importlib.import_module(f"convzoo.configs.{path.stem}")
        for variant in module.get_config.variants:
            found.setdefault(module.get_config(variant).model.name, f"`configs/{path.name}:{variant}`")
    return found


if __name__ == "__main__":
    program.run(main)
