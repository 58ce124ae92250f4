"""Gives the programs inputs that nobody thought of, and checks that each is answered or refused with one line.

    pip install -e ".[cpu,test]"
    python benchmarks/fuzz.py --inputs=1000 --output=fuzz --markers=docs/reliability.md

Hypothesis generates a quarter of the inputs of each kind: values of config fields, config.json of a run, image files
and files of weights. An input fails if a program ends with a traceback or a signal, takes longer than --limit_s, or
says in more than one line what is wrong. A refused training must not have written anything. Exit status 0 if none
fails, else 1.
"""

import collections
import copy
import io
import json
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time

from absl import flags

from convzoo.benchmarks import report
from convzoo.cli import program, startup

ROOT = pathlib.Path(__file__).resolve().parent.parent
INPUTS = flags.DEFINE_integer("inputs", 1000, "Number of inputs.", lower_bound=4)
SEED = flags.DEFINE_integer("seed", 0, "Seed of the inputs.")
LIMIT = flags.DEFINE_integer("limit_s", 60, "Longest time for one input, in seconds.", lower_bound=1)
MARKERS = flags.DEFINE_string("markers", None, "Page for the table, between <!-- fuzz --> and <!-- /fuzz -->.")
report.define_output()

# A training of some steps in seconds, whatever the fuzzed field says.
_TINY = (
    "--config=quickstart",
    "--config.model.name=mobilenet_v1_x0_25",
    "--config.model.overrides={'blocks':((8,1),),'stem_strides':1}",
    "--config.model.operator={}",
    "--config.data.source=fake:classes=4,size=16,examples=32",
    "--config.data.train_split=train",
    "--config.data.eval_split=test",
    "--config.model.image_size=16",
    "--config.batch_size=16",
    "--config.epochs=1",
    "--config.schedule.warmup_epochs=0",
    "--devices=cpu",
)
_MODEL = {"blocks": ((8, 1),), "stem_strides": 1}


def main():
    import hypothesis
    from hypothesis import strategies as st

    from convzoo.cli.markdown import check_markers, write_between

    if MARKERS.value:
        check_markers(MARKERS.value, "fuzz")
    kinds = {
        "values of config fields": (_config_values(st), _train),
        "config.json of a run": (_records(st), _evaluate),
        "image files": (_images(st), _decode),
        "files of weights": (_weights(st), _load),
    }
    outcomes, failures = {}, []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        _prepare(folder)
        for kind, (strategy, try_input) in kinds.items():
            begin = time.perf_counter()
            outcomes[kind], failed = _fuzz(strategy, lambda value, try_input=try_input: try_input(folder, value))
            failures += [{"kind": kind, **failure} for failure in failed]
            print(f"{kind}: {dict(outcomes[kind])}, {time.perf_counter() - begin:.0f} s", flush=True)
    table = report.table(
        [
            {"inputs": kind, **{name: counts[name] for name in ("accepted", "refused", "failed")}}
            for kind, counts in outcomes.items()
        ]
    )
    result = report.start("benchmarks/fuzz.py", outcomes=outcomes, failures=failures, seed=SEED.value)
    facts = (f"Seed {SEED.value}, hypothesis {hypothesis.__version__}",)
    report.finish(result, [table], *facts)
    if MARKERS.value:
        write_between(MARKERS.value, "fuzz", f"\n{table}\n\n{report.caption(result, *facts)}\n")
    sys.exit(bool(failures))


def _fuzz(strategy, try_input):
    """Tries a quarter of the inputs and returns the number of each outcome, and the failures."""
    import hypothesis

    counts, failures = collections.Counter(), []

    @hypothesis.seed(SEED.value)
    @hypothesis.settings(
        max_examples=INPUTS.value // 4,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategy)
    def try_each(value):
        outcome = try_input(value)
        if outcome not in ("accepted", "refused"):
            failures.append({"input": repr(value)[:500], "outcome": outcome[-2000:]})
            print(f"{repr(value)[:200]}: {outcome[-500:]}", file=sys.stderr, flush=True)
            outcome = "failed"
        counts[outcome] += 1

    try_each()
    return counts, failures


def _config_values(st):
    """Returns a strategy of (field, value) for a flag such as --config.epochs=VALUE."""
    from convzoo.configs import schema

    numbers = st.one_of(st.integers(), st.floats(), st.integers(-2, 3), st.sampled_from([1e-300, 1e300, 2**63, -0.0]))
    text = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=8)  # what a command line can have
    simple = st.one_of(numbers, text, st.booleans(), st.none())
    values = st.one_of(simple, st.lists(simple, max_size=4).map(tuple), st.dictionaries(st.text(max_size=4), simple))
    return st.tuples(st.sampled_from(sorted(schema.default_values())), values)


def _records(st):
    """Returns a strategy of functions that change one place of a JSON object."""
    leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))
    values = st.recursive(leaves, lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(max_size=5), inner)))
    return st.tuples(st.lists(st.integers(0, 100), min_size=1, max_size=4), values)


def _images(st):
    return _damage(st, ("JPEG", "PNG", "GIF", "BMP", "WEBP"))


def _weights(st):
    return _damage(st, ("net.weights.h5",))


def _damage(st, names):
    """Returns a strategy of (file, changed bytes, where it is cut off): positions are fractions of its size."""
    change = st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8))
    early = st.tuples(st.floats(0, 0.02), st.binary(min_size=1, max_size=8))  # headers
    return st.tuples(
        st.sampled_from(names),
        st.lists(st.one_of(change, early), max_size=4),
        st.one_of(st.none(), st.floats(0, 1, exclude_max=True)),
    )


def _prepare(folder):
    """Writes what the inputs are made of: a run, images and weights."""
    import numpy as np
    from PIL import Image

    os.chdir(folder)
    status, text = _run("train.py", *_TINY, "--workdir=run")
    if status:
        raise RuntimeError(f"the training for the inputs failed: {text}")

    def save():
        from convzoo import models

        model = models.create_model("mobilenet_v1_x0_25", 4, (16, 16, 3), **_MODEL)
        models.save_weights(model, "net.weights.h5", _MODEL)

    _fork(save)  # TensorFlow cannot be forked once it has computed something
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP"):
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, kind, **({"exif": exif} if kind == "JPEG" else {}))
        (folder / kind).write_bytes(content.getvalue())


def _train(folder, field_and_value):
    field, value = field_and_value
    text = value if isinstance(value, str) else repr(value)
    workdir = folder / "new"
    status, output = _run("train.py", *_TINY, f"--config.{field}={text}", f"--workdir={workdir}")
    left, trains = workdir.exists(), (workdir / "metrics.jsonl").exists()
    shutil.rmtree(workdir, ignore_errors=True)
    if status == -signal.SIGALRM and trains:  # a long training
        return "accepted"
    if status == 2 and left:
        return f"a refused training wrote into its workdir: {output}"
    return _outcome(status, output)


def _evaluate(folder, change):
    steps, value = change
    workdir = folder / "changed"
    shutil.copytree(folder / "run", workdir)
    path = workdir / "config.json"
    record = json.loads(path.read_text())
    parent, place, inner = None, None, record
    for step in steps:
        if not isinstance(inner, dict) or not inner:
            break
        parent, place = inner, sorted(inner)[step % len(inner)]
        inner = inner[place]
    parent[place] = copy.deepcopy(value)
    path.write_text(json.dumps(record))
    outcome = _outcome(*_run("eval.py", f"--workdir={workdir}", "--devices=cpu"))
    shutil.rmtree(workdir)
    return outcome


def _decode(folder, damage):
    content = _apply(folder, damage)

    def decode():
        import tensorflow as tf

        from convzoo import data

        try:
            assert data.decode_image(content).shape[-1] == 3
        except tf.errors.InvalidArgumentError:
            sys.exit(2)

    status, output = _fork(decode)
    return "refused" if status == 2 else _outcome(status, output)


def _load(folder, damage):
    path = folder / "damaged.weights.h5"
    path.write_bytes(_apply(folder, damage))

    def load():
        from convzoo import models
        from convzoo.errors import ModelError

        try:
            models.create_model("mobilenet_v1_x0_25", 4, (16, 16, 3), weights=path, **_MODEL)
        except ModelError as error:
            print(f"fuzz.py: {error}", file=sys.stderr)
            sys.exit(2)

    return _outcome(*_fork(load))


def _apply(folder, damage):
    name, changes, end = damage
    content = bytearray((folder / name).read_bytes())
    size = len(content)
    for position, replacement in changes:
        start = int(position * size)
        content[start : start + len(replacement)] = replacement
    return bytes(content if end is None else content[: int(end * size)])


def _run(script, *arguments):
    """Returns exit status and output of a program."""

    def run_program():
        import runpy

        sys.argv = [script, *map(str, arguments)]
        for name in ("inputs", "seed", "limit_s", "markers", "output"):  # the program may have flags of these names
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()
        runpy.run_path(str(ROOT / script), run_name="__main__")

    return _fork(run_program)


def _fork(function):
    """Returns exit status and standard error of a function in a process of its own, which SIGALRM ends if it hangs."""
    sys.stdout.flush()
    with tempfile.TemporaryFile() as output:
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(output.fileno(), 2)
            signal.alarm(LIMIT.value)
            status = 1
            try:
                function()
                status = 0
            except SystemExit as error:
                status = error.code or 0
            except BaseException:
                import traceback

                traceback.print_exc()
            sys.stderr.flush()
            os._exit(status)
        _, status = os.waitpid(pid, 0)
        output.seek(0)
        return os.waitstatus_to_exitcode(status), output.read().decode(errors="replace")


def _outcome(status, output):
    """Returns "accepted", "refused", or what is wrong with how a program ended."""
    if status < 0:
        return f"ended by {signal.Signals(-status).name}: {output}"
    if "Traceback" in output:
        return output
    if status == 0:
        return "accepted"
    lines = [line for line in output.splitlines() if not startup.LOG_MESSAGE.match(line)]
    is_refused = status in (1, 2) and len(lines) == 1
    return "refused" if is_refused else f"status {status} with {len(lines)} lines: {output}"


if __name__ == "__main__":
    program.run(main)
