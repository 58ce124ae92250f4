r"""Draws how a network uses its experts (CondConv) or regions (DRConv): by class, by depth, and how alike experts are.

    python scripts/draw_experts.py --workdir=runs/condconv --checkpoint=best --split=test --count=1000
    python scripts/draw_experts.py --workdir=runs/drconv --checkpoint=best --output=use.png --blocks='block[048]'

Writes the mean routing weights, or shares of the regions, of the images of each class, with a panel for each block:
figure 6 of the CondConv paper. Networks with experts get a second file, OUTPUT with "_similarity" in its name: the
cosine similarity of the kernels of each pair of experts, with a panel for each layer. The tables printed have, for each
block, the mean and the standard deviation over images, and for each layer the most and the least similar experts.
`--checkpoint=FILE.weights.h5 --source=...` draws a file of weights, as in `eval.py`.
"""

import fnmatch
import os

from absl import flags

from convzoo.cli import program
from convzoo.errors import ConfigError

program.define_checkpoint()
SPLIT = flags.DEFINE_string("split", None, "Split, such as test or train[:10%]. Default: config.data.eval_split.")
COUNT = flags.DEFINE_integer("count", 512, "Number of images, from the start of the split.", lower_bound=1)
BLOCKS = flags.DEFINE_string("blocks", "*", "Shell pattern of the blocks or layers to draw, such as block[0-3].")
OUTPUT = flags.DEFINE_string("output", "experts.png", "PNG file to write.")
program.define_devices()


def main():
    devices = program.connect()
    from convzoo.models import expert_similarity
    from convzoo.tasks.drawing import draw_matrices, first_images, write_png
    from convzoo.training import experiment
    from convzoo.training.inspection import RegionMaps, RoutingWeights, draw_by_class, routing_messages

    config = program.config_of_checkpoint()
    source, model, _ = program.load_checkpoint(config, devices)
    routing, regions = RoutingWeights(model, devices.strategy), RegionMaps(model, devices.strategy)
    similarity = expert_similarity(model)
    names = [*routing.names, *regions.names, *similarity]
    if not names:
        raise ConfigError(
            f"network {config.model.name!r} has neither experts nor regions; use one with CondConv or DRConv"
        )
    selected = set(fnmatch.filter(names, BLOCKS.value))
    if not selected:
        raise ConfigError(f"--blocks={BLOCKS.value} matches none of {', '.join(names)}")
    images, labels = first_images(
        source, SPLIT.value or config.data.eval_split, COUNT.value, **experiment.eval_settings(config)
    )
    weights, shares = routing(images), regions.shares(regions(images))
    outputs = []
    if used := _select({**weights, **shares}, selected):
        outputs.append((OUTPUT.value, draw_by_class(used, labels, source)))
        print(_use_table(used))
    if similarity := _select(similarity, selected):
        path, extension = os.path.splitext(OUTPUT.value)
        outputs.append((f"{path}_similarity{extension}", draw_matrices(similarity)))
        print(_similarity_table(similarity))
    for message in routing_messages(_select(weights, selected)):
        print(message)
    for path, png in outputs:
        write_png(path, png)
        print(f"written to {path}")


def _select(values, selected):
    return {name: value for name, value in values.items() if name in selected}


def _use_table(used):
    """Returns a table of the mean over images of each column, and of the standard deviation averaged over columns."""
    import tabulate

    columns = max(values.shape[1] for values in used.values())
    rows = [
        [name, f"{values.std(0).mean():.3f}", *(f"{mean:.3f}" for mean in values.mean(0))]
        for name, values in used.items()
    ]
    return tabulate.tabulate(rows, ["block", "deviation", *map(str, range(columns))], disable_numparse=True)


def _similarity_table(similarity):
    """Returns a table of the most and the least similar experts of each layer."""
    import numpy as np
    import tabulate

    rows = []
    for name, matrix in similarity.items():
        first, second = np.triu_indices(len(matrix), k=1)
        if len(first):
            order = np.argsort(matrix[first, second])
            pairs = [f"{first[i]} and {second[i]}: {matrix[first[i], second[i]]:.3f}" for i in order[[-1, 0]]]
            rows.append([name, *pairs])
    return tabulate.tabulate(rows, ["layer", "most similar experts", "least similar experts"], disable_numparse=True)


if __name__ == "__main__":
    program.run(main)
