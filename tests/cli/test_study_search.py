"""Proposals of a search, and the grid and folds of a study."""

import itertools
import math

import pytest

from convzoo.cli.study_rows import expand_rows, fold_splits
from convzoo.cli.study_search import parse_space, propose
from convzoo.errors import ConfigError

SPACE = ["config.optimizer.learning_rate=float(0.001, 1.0, log)", "config.model.name=choice(a, b)"]


def _search(trials, space):
    """Returns trials whose result is highest at a learning rate of 0.1 with network b."""
    found = []
    while len(found) < trials:
        for fields in propose(space, found, 2):
            rate = fields["config.optimizer.learning_rate"]
            value = -abs(math.log10(rate) + 1) - (fields["config.model.name"] == "a")
            found.append((fields, None if rate > 0.9 else value))
    return found


def test_search_approaches_the_optimum_and_repeats_exactly():
    space = parse_space(SPACE)
    found = _search(40, space)
    late = [value for _, value in found[-10:]]
    assert max(late) > -0.1
    assert sum(late) / 10 > sum(value for _, value in found[:10]) / 10 + 0.3
    assert propose(space, found[:20], 2) == [fields for fields, _ in found[20:22]]
    assert all(0.001 <= fields["config.optimizer.learning_rate"] <= 1.0 for fields, _ in found)


def test_trials_outside_the_space():
    earlier = [({"config.epochs": 9}, 1.0)]
    with pytest.raises(ConfigError, match="choose another --workdir"):
        propose(parse_space(["config.epochs=int(1, 3)"]), earlier, 1)


def test_grid():
    sweeps = ["config.a=1,2", "config.b.c=((0.5,), 1.0),None"]
    rows = list(expand_rows(["x.py"], ["s: config.d=3"], [], sweeps))
    assert len(rows) == 8
    assert rows[1] == ("x a=1 c=None", "x.py", ["config.a=1", "config.b.c=None"])
    assert rows[6] == ("x s a=2 c=((0.5,), 1.0)", "x.py", ["config.d=3", "config.a=2", "config.b.c=((0.5,), 1.0)"])


@pytest.mark.parametrize("folds", [2, 3, 7, 100])
def test_folds_cover_the_split_once(folds):
    ranges = []
    for fold in range(folds):
        fields, left_out = fold_splits("train", fold, folds)
        start, stop = (int(bound) for bound in left_out.removeprefix("train[").removesuffix("%]").split("%:"))
        ranges.append((start, stop))
        parts = fields[0].removeprefix("config.data.train_split=").split("+")
        expected = [f"train[:{start}%]"] * (start > 0) + [f"train[{stop}%:]"] * (stop < 100)
        assert parts == expected
    assert ranges[0][0] == 0
    assert ranges[-1][1] == 100
    assert all(before[1] == after[0] for before, after in itertools.pairwise(ranges))
