"""What users can get wrong: one line that names it, exit status 2, and no file written or changed.

Each case is an input of a program. Most are one word in the table below; files and folders that are wrong are prepared
once, around a run that was trained by the first case that needs it.
"""

import gzip
import io
import json
import os
import pathlib
import re
import shutil

import h5py
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from helpers.programs import TINY, run

from convzoo.configs import schema

_TRAIN = f"train.py --config={TINY} --workdir=OUT/w"


def _network(name, overrides, operator):
    values = (repr(value).replace(" ", "").replace("inf", "1e999") for value in (overrides, operator))
    return "--config.model.name={} --config.model.overrides={} --config.model.operator={}".format(name, *values)


def _import(source, checkpoint, output="OUT/a.weights.h5", model="efficientnet_b0"):
    return f"scripts/import_weights.py --source={source} --checkpoint={checkpoint} --model={model} --output={output}"


def _numbers():
    """Every number of a config as something that is not finite, and as a negative number."""
    for name, field in schema._fields().items():
        if field.kind in (int, float):
            for value in ("nan", "-1"):
                yield f"{_TRAIN} --config.{name}={value}", f"{name}|{value}"


_CONFIG_VALUES = {
    "schedule.end_factor": ["-5", "1.5"],
    "segmentation.head_dropout_rate": ["1", "1.5"],
    "data.crop_fraction": ["0", "1.1"],
    "clip_norm": ["0"],
    "data.crop_area": ["(0.5,0.1)", "(0.0,1.0)", "(0.5,)", "(0.1,0.2,0.3)", "('a','b')", "0.5"],
    "data.crop_aspect": ["(0.0,1.0)", "(2.0,1.0)", "None"],
    "data.color_jitter": ["(0.1,0.2)", "(-0.1,0.2,0.3)"],
    "data.rand_augment": ["(1000,10.0)", "(2,31.0)", "(2,)", "(0,5.0)"],
    "data.mean": ["(1.0,2.0)", "(1.0,2.0,'x')"],
    "data.std": ["(1.0,2.0,0.0)"],
    "data.mixup": ["0", "x"],
    "data.interpolation": ["nearest"],
    "data.train_split": ["", "nothing", "train[", "train[:0%]", "train[50%:50%]", "train[:5:2]", "train+"],
    "data.eval_split": ["nothing", "train[99999:]"],
    "data.source": ["", "nothing", "nothing:x", "fake:classes=0", "fake:size=-1", "fake:colour=3", "fake:classes=x"],
    "batch_size": ["0", "1.5", "x", "100000"],
    "epochs": ["0", "0.001", "x"],
    "task": ["detection", ""],
    "precision": ["float16"],
    "deterministic": ["maybe"],
    "optimizer.name": ["adam"],
    "optimizer.beta_1": ["0.9"],
    "schedule.name": ["step", "plateau", "rsqrt", "cosine_restarts"],
    "schedule.milestones": ["(1.0,2.0)", "(2.0,1.0)"],
    "schedule.warmup_epochs": ["4"],
    "gradient_accumulation_steps": ["3"],
    "weight_decay_on": ["()", "('gamma',)"],
    "label_smoothing": ["1"],
    "ema_decay": ["1"],
    "seed": ["2147483648", "0.5"],
    "init.weights": ["/nowhere.weights.h5", "/nowhere", ""],
    "init.freeze": ["('nothing_*',)", "()"],
    "model.name": ["", "resnet19", "efficientnet_condconv"],
    "nothing": ["1"],
    "data.nothing": ["1"],
    "data.service": ["nowhere", "localhost:x", "localhost:99999"],
    "trackers": ["nothing", "('nothing',)", "('tensorboard','tensorboard')"],
    "callbacks": ["('nothing',)", "('nothing:f',)", "('os:sep',)"],
}
_OVERRIDES = [
    ("efficientnet_b0", {"width_coefficient": -1}),
    ("efficientnet_b0", {"width_coefficient": 0}),
    ("efficientnet_b0", {"depth_coefficient": 1e999}),
    ("efficientnet_b0", {"dropout_rate": 1}),
    ("efficientnet_b0", {"dropout_rate": -0.1}),
    ("efficientnet_b0", {"survival_prob": 0}),
    ("efficientnet_b0", {"survival_prob": 2}),
    ("efficientnet_b0", {"bn_momentum": 1.5}),
    ("efficientnet_b0", {"bn_epsilon": 0}),
    ("efficientnet_b0", {"stem_strides": 0}),
    ("efficientnet_b0", {"activation": "gelu7"}),
    ("efficientnet_b0", {"blocks": ("r1_k3",)}),
    ("efficientnet_b0", {"padding": "full"}),
    ("efficientnet_b0", {"nothing": 1}),
    ("efficientnet_b0", {"num_classes": 3}),
    ("mobilenet_v1_x0_25", {"blocks": ((8,),)}),
    ("resnet18_cifar", {"width_coefficient": 1000000.0}),
    ("shufflenet_v2_x0_5", {"widths": (24, 48, 96)}),
]
_OPERATORS = [
    {"name": "CondConv", "num_experts": 0},
    {"name": "CondConv", "num_experts": 1000000},
    {"name": "CondConv", "num_experts": 2.5},
    {"name": "CondConv", "num_experts": "8"},
    {"name": "CondConv", "first_block": 99},
    {"name": "CondConv", "routing": "random"},
    {"name": "CondConv", "scope": "network"},
    {"name": "CondConv", "expert_dropout": 1.0},
    {"name": "CondConv", "expert_dropout": 1e999},
    {"name": "CondConv", "temperature": 30.0},
    {"name": "CondConv", "routing": "softmax", "temperature": 1e999},
    {"name": "CondConv", "routing": "softmax", "temperature": -1.0},
    {"name": "CondConv", "annealing_steps": -1},
    {"name": "CondConv", "routing_initializer": "ones"},
    {"name": "CondConv", "regions": 3},
    {"name": "DRConv", "regions": 0},
    {"name": "DRConv", "regions": -3},
    {"name": "DRConv", "mask_per": "network"},
    {"name": "Lean", "stencil": "7-point"},
    {"name": "Lean", "group_size": 0},
    {"name": "Lean", "group_size": -1},
    {"name": "UnevenGroups", "ratio": (0, 1)},
    {"name": "UnevenGroups", "ratio": "1:3"},
    {"name": "Nothing"},
    {"num_experts": 3},
    {"name": 3},
]
_SIZES = [
    "--config.model.image_size=20000",
    "--config.model.image_size=20000 --config.batch_size=4096",
    "--config.eval_batch_size=100000000",
    "--config.data.source=fake:classes=1000000000,size=16,examples=128",
    "--config.data.source=fake:classes=10000000,size=16,examples=128",
    "--config.data.source=fake:classes=4,size=100000,examples=128",
]
_FLAGS = [
    ("train.py --workdir=OUT/w", "--config is missing"),
    (f"train.py --config={TINY}", "--workdir is missing"),
    (f"{_TRAIN} --mode=nothing", "mode"),
    ("train.py --config nothing --workdir=OUT/w", "nothing"),
    ("train.py --config IN/configs/exits.py --workdir=OUT/w", "exits.py"),
    (f"{_TRAIN} --nothing=1", "nothing"),
    (f"{_TRAIN} unexpected", "unexpected"),
    (f"{_TRAIN} --profile=5", "profile"),
    (f"{_TRAIN} --profile=5:3", "profile"),
    (f"{_TRAIN} --profile=x:y", "profile"),
    (f"{_TRAIN} --profile=1:99999", "profile"),
    (f"{_TRAIN} --devices=gpu", "GPU|gpu"),
    (f"{_TRAIN} --devices=cpu:0", "cpu:0"),
    (f"{_TRAIN} --devices=cpu:x", "cpu:x"),
    (f"{_TRAIN} --devices=cpu:3", "divisible"),
    (f"{_TRAIN} --devices=tpu", "devices"),
    (f"{_TRAIN} --tpu=local --devices=cpu", "tpu|devices"),
    (f"train.py --config={TINY}:nothing --workdir=OUT/w", "nothing"),
    (f"train.py --config={TINY} --workdir=OUT/lr=[0.1]", "pattern"),
    (f"train.py --config={TINY} --workdir=OUT/a*b", "pattern"),
    (f"train.py --config={TINY} --workdir=/dev/null", "/dev/null"),
    (f"train.py --config={TINY} --workdir=/proc/nothing", "/proc/nothing"),
    (f"train.py --config={TINY} --workdir=IN/file.txt", "file.txt"),
    (f"train.py --config={TINY} --workdir=IN/run --config.batch_size=8", "different experiment"),
    ("eval.py", "--workdir is missing"),
    ("eval.py --workdir=OUT/nothing", "config.json"),
    ("eval.py --workdir=IN/run --split=nothing", "nothing"),
    ("eval.py --workdir=IN/run --split=train[", r"train\["),
    ("eval.py --workdir=IN/run --checkpoint=nothing", "nothing"),
    ("eval.py --workdir=IN/run --checkpoint=IN/file.txt", "file.txt"),
    ("eval.py --workdir=IN/run --checkpoint=IN/run/config.json", "config.json"),
    ("eval.py --workdir=IN/run --weights=best", "weights"),
    ("eval.py --workdir=IN/run --batch_size=0", "batch_size"),
    ("eval.py --workdir=IN/run --batch_size=1000000000", "batch_size|memory"),
    ("eval.py --workdir=IN/run --batch_size=x", "batch_size"),
    ("eval.py --workdir=IN/run --source=digits", "--source"),
    ("eval.py --workdir=IN/run --image_size=3", "--image_size"),
    ("eval.py --workdir=IN/run --follow --output=OUT/a.json", "--output"),
    ("eval.py --workdir=IN/run --output=/dev/full", "/dev/full"),
    ("eval.py --workdir=IN/run --output=/proc/nothing/a.json", "/proc/nothing"),
    ("eval.py --workdir=IN/run --output=IN/run/config.json", "config.json"),
    ("eval.py --workdir=IN/run --output=IN/run", "IN/run|run"),
    ("eval.py --workdir=IN/run --output=OUT/folder/", "folder"),
    (
        "eval.py --checkpoint=IN/net.weights.h5 --source=fake:classes=4,size=16,examples=8 --split=test "
        "--output=IN/net.weights.h5",
        "binary",
    ),
    ("eval.py --workdir=IN/run --output=IN/good.png", "PNG file would be replaced by a JSON file"),
    ("scripts/save_image.py --source=fake:size=8 --split=test --output=IN/file.txt", "text file would be replaced"),
    (f"scripts/show_batch.py --config={TINY} --output=IN/run/config.json", "config.json"),
    ("eval.py --workdir=OUT/caf\udce9", "UTF-8"),
    ("eval.py --workdir=IN/run --class_names=IN/file.txt", "--class_names"),
    ("eval.py --workdir=IN/run --real_labels=OUT/no.json", "no.json"),
    ("eval.py --workdir=IN/run --real_labels=IN/file.txt", "--real_labels"),
    ("eval.py --workdir=IN/run --real_labels=IN/latin1.txt", "--real_labels"),
    ("eval.py --workdir=IN/run --real_labels=IN/run/config.json", "JSON list of lists"),
    ("eval.py --workdir=IN/run --predictions=xml", "predictions"),
    ("eval.py --workdir=IN/run --top_losses=0", "top_losses"),
    ("eval.py --workdir=IN/run --override=config.classification.eval_top_k=(5,)", "eval_top_k"),
    ("eval.py --checkpoint=IN/net.weights.h5", "--source is missing"),
    ("eval.py --checkpoint=IN/net.weights.h5 --source=nothing", "nothing"),
    ("eval.py --checkpoint=IN/net.weights.h5 --source=fake:classes=3,size=16,examples=8", "classes"),
    ("eval.py --checkpoint=IN/net.weights.h5 --workdir=IN/run", "exclude"),
    ("eval.py --checkpoint=OUT/no.weights.h5 --source=digits", "no.weights.h5"),
    ("eval.py --checkpoint=IN/file.txt --source=digits", "--source|--workdir"),
    ("scripts/export.py", "--workdir is missing"),
    ("scripts/export.py --workdir=OUT/nothing", "config.json"),
    ("scripts/export.py --workdir=IN/run --output=IN", "other files"),
    ("scripts/export.py --workdir=IN/run --output=IN/run", "other files"),
    ("scripts/export.py --workdir=IN/run --output=IN/file.txt", "file"),
    ("scripts/export.py --workdir=IN/run --output=/dev/null", "/dev/null"),
    ("scripts/export.py --workdir=IN/run --output=OUT/a[b]", "pattern"),
    ("scripts/export.py --workdir=IN/run --checkpoint=nothing", "nothing"),
    ("scripts/export.py --workdir=IN/run --target=phone", "target"),
    ("scripts/export.py --workdir=IN/run --max_pixels=0", "max_pixels"),
    ("scripts/export.py --workdir=IN/run --class_names=IN/file.txt", "exclude"),
    ("scripts/export.py --checkpoint=IN/net.weights.h5 --source=digits", "--output is missing"),
    (
        "scripts/export.py --checkpoint=IN/net.weights.h5 --class_names=IN/file.txt --output=OUT/s",
        "file.txt",
    ),
    (
        "scripts/export.py --checkpoint=IN/net.weights.h5 --class_names=IN/latin1.txt --output=OUT/s",
        "latin1",
    ),
    ("scripts/export.py --checkpoint=IN/net.weights.h5 --class_names=IN --output=OUT/s", "class names"),
    ("scripts/import_weights.py", "--source is missing"),
    (_import("nothing", "IN/file.txt"), "nothing"),
    (_import("timm", "IN/file.txt"), "file.txt"),
    (_import("timm", "OUT/no.pth"), "no.pth"),
    (_import("timm", "IN"), "inputs"),
    (_import("timm", "IN/empty.safetensors"), "empty.safetensors"),
    (_import("timm", "IN/cut.safetensors"), "cut.safetensors"),
    (_import("keras", "IN/file.txt"), "file.txt"),
    (_import("tf1", "IN/file.txt"), "file.txt"),
    (_import("timm", "IN/file.txt", model="nothing"), "nothing"),
    (_import("timm", "IN/file.txt", output="OUT/a.h5"), "weights.h5"),
    (_import("timm", "IN/file.txt") + " --override=x", "override"),
    (_import("timm", "IN/file.txt") + " --override=nothing=1", "nothing|file.txt"),
    ("scripts/classify.py --model=OUT/nothing IN/good.png", "nothing"),
    ("scripts/classify.py --model=IN/file.txt IN/good.png", "file.txt"),
    ("scripts/classify.py --model=IN/run IN/good.png", "SavedModel"),
    ("scripts/classify.py --model=IN/export OUT/no.png", "no.png"),
    ("scripts/classify.py --model=IN/export IN/file.txt", "file.txt"),
    ("scripts/classify.py --model=IN/export IN/good.png IN", "IN|inputs"),
    ("scripts/classify.py --model=IN/export IN/empty.png", "empty.png"),
    ("scripts/classify.py --model=IN/export IN/cut.png", "cut.png"),
    ("scripts/classify.py --model=IN/export IN/huge.png", "more than"),
    ("scripts/classify.py --model=IN/export IN/animation.webp", "animation.webp"),
    ("scripts/classify.py --model=IN/export IN/palette.bmp", "palette.bmp"),
    ("scripts/classify.py --model=IN/export IN/pipe.png", "regular file"),
    ("scripts/classify.py --model=IN/export --top=x IN/good.png", "top"),
    ("scripts/classify.py --model=IN/export_names IN/good.png", "5 names"),
    ("scripts/classify.py --model=IN/export_latin1 IN/good.png", "class names"),
    ("scripts/classify.py --model=IN/export_empty IN/good.png", "export_empty"),
    ("scripts/classify.py --model=IN/export_cut IN/good.png", "export_cut"),
    (f"train.py --config={TINY} --config.epochs=1.0 --workdir=IN/no_config", "config.json"),
    ("scripts/draw_study.py --workdir=IN/study --output=OUT/a.png", "study.json"),
    ("scripts/save_image.py --source=idx:IN/idx --split=test --output=OUT/a.png", "gzip"),
    (f"{_TRAIN} --config.data.source=folder:IN/latin1_names", "UTF-8"),
    ("scripts/classify.py --model=IN/export --top=0 IN/good.png", "top"),
    ("scripts/classify.py --model=IN/export --top=-1 IN/good.png", "top"),
    ("scripts/save_image.py --source=nothing --split=test --output=OUT/a.png", "nothing"),
    ("scripts/save_image.py --source=fake:size=8 --split=nothing --output=OUT/a.png", "nothing"),
    ("scripts/save_image.py --source=fake:size=8 --split=test --output=/dev/full", "/dev/full"),
    ("scripts/save_image.py --split=test --output=OUT/a.png", "--source"),
    ("scripts/show_batch.py --output=OUT/a.png", "--config is missing"),
    (f"scripts/show_batch.py --config={TINY} --output=/dev/full", "/dev/full"),
    (f"scripts/show_batch.py --config={TINY} --output=OUT/a.png --config.batch_size=0", "batch_size"),
    ("scripts/draw_regions.py --workdir=IN/run --output=OUT/a.png", "region"),
    ("scripts/draw_segmentation.py --workdir=IN/run --output=OUT/a.png", "segmentation"),
    ("scripts/draw_study.py --workdir=OUT/nothing", "nothing"),
    ("scripts/draw_curves.py", "--workdir is missing"),
    ("scripts/draw_curves.py --workdir=OUT/nothing", "nothing"),
    ("scripts/draw_curves.py --workdir=IN/run --metric=nothing --output=OUT/a.png", "train/loss"),
    ("scripts/draw_curves.py --workdir=IN/run --output=/dev/full", "/dev/full"),
    ("scripts/lr_range_test.py --output=OUT/a.json --plot=OUT/a.png", "--config is missing"),
    (f"scripts/lr_range_test.py --config={TINY} --start_lr=1 --end_lr=0.1 --output=OUT/a.json", "start_lr"),
    (f"scripts/lr_range_test.py --config={TINY} --start_lr=nan --output=OUT/a.json", "start_lr"),
    (f"scripts/lr_range_test.py --config={TINY} --config.batch_size=0 --output=OUT/a.json", "batch_size"),
    (f"scripts/lr_range_test.py --config={TINY} --output=OUT/a.json --plot=/proc/x/a.png", "--plot"),
    (f"{_TRAIN} --mode=train --config.early_stopping.patience=2", "early_stopping.patience"),
    ("scripts/study.py --config=configs/quickstart.py", "--workdir is missing"),
    ("scripts/study.py --workdir=OUT/s", "--config is missing"),
    (f"scripts/study.py --workdir=OUT/s --config={TINY} --seeds=0", "seeds"),
    (f"scripts/study.py --workdir=OUT/s --config={TINY} --override=config.nothing=1", "nothing"),
    (f"scripts/study.py --workdir=OUT/s --config={TINY} --override=config.seed=1", "seed"),
    (f"scripts/study.py --workdir=OUT/s --config={TINY} --set=x", "x"),
    (f"scripts/study.py --workdir=OUT/s --config={TINY} --config={TINY}", "tiny"),
    (f"scripts/study.py --workdir=OUT/s --config={TINY} --markers=nowhere", "markers"),
    ("scripts/study.py --workdir=OUT/s --table_only", "study.json"),
    ("scripts/tpu_compile.py --config=configs/quickstart.py --topology=v9", "v9"),
    ("scripts/tpu_compile.py", "--config is missing"),
    ("scripts/tpu_status.py --tpu=", "tpu|missing"),
    ("train.py --config=nothing --workdir=OUT/w", "nothing"),
    ("train.py --config=quickstart:nothing --workdir=OUT/w", "nothing"),
    ("cli/main.py nothing", "nothing"),
    ("cli/main.py train --workdir=OUT/w", "--config is missing"),
    ("cli/main.py list nothing*", "nothing"),
    ("cli/main.py list a b", "arguments"),
    ("cli/main.py info nothing", "nothing"),
    ("cli/main.py info", "arguments"),
    ("benchmarks/layers.py --only=nothing", "nothing"),
    ("benchmarks/models.py --models=nothing", "nothing"),
]
# Config files, by what they contain.
_CONFIG_FILES = {
    "does_not_parse.py": "def get_config(:\n",
    "raises.py": "def get_config(variant=''):\n    return 1 / 0\n",
    "returns_none.py": "def get_config(variant=''):\n    return None\n",
    "returns_dict.py": "def get_config(variant=''):\n    return {'epochs': 1}\n",
    "exits.py": "raise SystemExit(0)\n",
    "exits_inside.py": "import sys\ndef get_config(variant=''):\n    sys.exit(0)\n",
    "has_no_function.py": "x = 1\n",
    "imports_nothing.py": "import no_such_module\n",
    "empty.py": "",
    "unset.py": "from convzoo.configs import base\ndef get_config(variant=''):\n    return base.get_config()\n",
    "another_config.py": "import ml_collections as m\ndef get_config(variant=''):\n    return m.ConfigDict({'a': 1})",
    "interrupts.py": "raise KeyError('x')\n",
    "config.json": "{}",
}
# Records of a run, by file: contents that replace them; None: a folder in its place.
_JSON = ["", "{", "[]", "null", "3", '"text"', "{}", '{"config": 3}', '{"config": {}}', b"\xff\xfe\x00", None]
_RECORDS = {
    "config.json": _JSON,
    "best/info.json": [*_JSON[:7], '{"step": "x"}', '{"step": 1e999}', b"\xff\xfe\x00", None],
    "metrics.jsonl": ["", "{", "[]\n", "null\n", "3\n", '{"step": "x"}\n', '{"steps": 3}\n', b"\xff\xfe\n", None],
    "classes.txt": ["", "a\n", "a\nb\nc\nd\ne\n", "0\n1\n3\n2\n", b"\xff\n", None],
}
_WEIGHTS = (
    "empty",
    "text",
    "cut",
    "flipped",
    "nan",
    "other_shape",
    "no_metadata",
    "bad_metadata",
    "list_metadata",
    "folder",
)


def _cases():
    yield from _numbers()
    for field, values in _CONFIG_VALUES.items():
        for value in values:
            name = field.rpartition(".")[2]
            yield f"{_TRAIN} --config.{field}={value}", f"{name}|{re.escape(value)}" if len(value) > 2 else name
    for network, overrides in _OVERRIDES:
        yield f"{_TRAIN} {_network(network, overrides, {})}", f"{next(iter(overrides))}|stage|memory"
    for operator in _OPERATORS:
        yield f"{_TRAIN} {_network('mobilenet_v2_x1_0', {}, operator)}", f"{next(reversed(operator))}|operator|memory"
    for size in _SIZES:
        yield f"{_TRAIN} {size}", "memory|GB|GiB|size|classes"
    yield from _FLAGS
    for name in _CONFIG_FILES:
        yield f"train.py --config=IN/configs/{name} --workdir=OUT/w", "config"
    yield "train.py --config=OUT/no.py --workdir=OUT/w", "no.py"
    yield "train.py --config=IN --workdir=OUT/w", "config"
    for file, contents in _RECORDS.items():
        for index in range(len(contents)):
            if file == "best/info.json":
                yield (
                    f"train.py --config={TINY} --workdir=IN/records/{_record(file, index)} --config.epochs=1.0",
                    "info.json",
                )
            elif file == "metrics.jsonl" and contents[index] is None:
                yield (
                    f"train.py --config={TINY} --workdir=IN/records/{_record(file, index)} --config.epochs=1.0",
                    "metrics.jsonl",
                )
            elif file != "metrics.jsonl":
                yield f"eval.py --workdir=IN/records/{_record(file, index)}", os.path.basename(file)
    for kind in _WEIGHTS:
        yield f"eval.py --checkpoint=IN/weights/{kind}.weights.h5 --source=fake:classes=4,size=16,examples=8", f"{kind}"


def _record(file, index):
    return f"{file.replace('/', '_')}_{index}"


CASES = list(_cases())


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """The folder IN of the cases."""
    folder = tmp_path_factory.mktemp("inputs")
    result = run("train.py", f"--config={TINY}", f"--workdir={folder}/run", "--config.epochs=1.0")
    assert result.returncode == 0, result.stderr
    result = run("scripts/export.py", f"--workdir={folder}/run", f"--output={folder}/export")
    assert result.returncode == 0, result.stderr
    shutil.rmtree(folder / "run" / "tensorboard")
    (folder / "file.txt").write_text("text\n")
    (folder / "latin1.txt").write_bytes("a\né\nc\nd\n".encode("latin1"))
    _write_images(folder)
    _write_weights(folder)
    _write_exports(folder)
    shutil.copytree(folder / "run", folder / "no_config")
    (folder / "no_config" / "config.json").unlink()
    (folder / "study").mkdir()
    (folder / "study" / "study.json").write_text('{"about": [], "rows": 3, "runs": 4}')
    (folder / "idx").mkdir()
    damaged = bytearray(gzip.compress(bytes(1000) + os.urandom(1000)))
    damaged[200:300] = bytes(100)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (folder / "idx" / f"{name}-ubyte.gz").write_bytes(damaged)
    latin1 = folder / "latin1_names" / "train" / "caf\udce9"
    latin1.mkdir(parents=True)
    (latin1 / "1.png").write_bytes((folder / "good.png").read_bytes())
    for name, text in _CONFIG_FILES.items():
        (folder / "configs").mkdir(exist_ok=True)
        (folder / "configs" / name).write_text(text)
    for file, contents in _RECORDS.items():
        for index, content in enumerate(contents):
            workdir = folder / "records" / _record(file, index)
            shutil.copytree(folder / "run", workdir)
            (workdir / file).unlink()
            if content is None:
                (workdir / file).mkdir()
            else:
                (workdir / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def _write_images(folder):
    good = tf.io.encode_png(np.zeros((20, 20, 3), np.uint8)).numpy()
    (folder / "good.png").write_bytes(good)
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut.png").write_bytes(good[:40])
    (folder / "huge.png").write_bytes(good[:16] + (20_000).to_bytes(4, "big") * 2 + good[24:])
    bmp = io.BytesIO()
    PIL.Image.new("P", (8, 8)).save(bmp, "BMP")
    (folder / "palette.bmp").write_bytes(bmp.getvalue())
    os.mkfifo(folder / "pipe.png")
    (folder / "animation.webp").write_bytes(b"RIFF\x00\x00\x00\x00WEBPVP8X\n\x00\x00\x00\x02" + bytes(40))
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "cut.safetensors").write_bytes((10**15).to_bytes(8, "little") + b"{}")


def _write_exports(folder):
    """Copies of the SavedModel with other or damaged files."""
    for name, file, content in (
        ("names", "assets/labels.txt", b"z\n0\n1\n2\n3\n"),
        ("latin1", "assets/labels.txt", b"a\n\xff\nb\nc\n"),
        ("empty", "saved_model.pb", b""),
        ("cut", "variables/variables.data-00000-of-00001", bytes(100)),
    ):
        shutil.copytree(folder / "export", folder / f"export_{name}")
        (folder / f"export_{name}" / file).write_bytes(content)


def _write_weights(folder):
    from convzoo import models

    model = models.create_model("mobilenet_v1_x0_25", 4, (16, 16, 3), blocks=((8, 1),), stem_strides=1)
    good = folder / "net.weights.h5"
    models.save_weights(model, str(good), {"blocks": ((8, 1),), "stem_strides": 1})
    weights = folder / "weights"
    weights.mkdir()
    paths = {kind: weights / f"{kind}.weights.h5" for kind in _WEIGHTS}
    content = good.read_bytes()
    paths["empty"].write_bytes(b"")
    paths["text"].write_text("text")
    paths["cut"].write_bytes(content[: len(content) // 2])
    paths["folder"].mkdir()
    for kind in _WEIGHTS[3:-1]:
        paths[kind].write_bytes(content)
    with h5py.File(good) as file:
        kernel = next(name for name in _arrays(file) if file[name].ndim == 4)
        offset, attribute = file[kernel].id.get_offset(), next(iter(file.attrs))
    flipped = bytearray(content)
    flipped[offset + 3] ^= 0xFF
    paths["flipped"].write_bytes(flipped)
    with h5py.File(paths["nan"], "r+") as file:
        file[kernel][...] = np.nan
        file.attrs[attribute] = json.dumps({**json.loads(file.attrs[attribute]), "checksum": None})
    with h5py.File(paths["other_shape"], "r+") as file:
        del file[kernel]
        file[kernel] = np.zeros((1, 1, 3, 8), np.float32)
    for kind, metadata in (("bad_metadata", "{"), ("list_metadata", "[]"), ("no_metadata", None)):
        with h5py.File(paths[kind], "r+") as file:
            if metadata is None:
                del file.attrs[attribute]
            else:
                file.attrs[attribute] = metadata


def _arrays(file):
    names = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return names


def _state(folder):
    """The files and folders in a folder, with size and time of the files."""
    return {
        str(path.relative_to(folder)): path.is_dir() or (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(pathlib.Path(folder).rglob("*"))
        if path.suffix != ".lock"
    }


@pytest.mark.parametrize(("command", "part"), CASES, ids=lambda value: value[:90])
def test_one_line_and_nothing_written(command, part, inputs, tmp_path):
    before = _state(inputs)
    words = [re.sub(r"\bOUT\b", str(tmp_path), re.sub(r"\bIN\b", str(inputs), word)) for word in command.split(" ")]
    result = run(*filter(None, words))
    assert "Traceback" not in result.stdout + result.stderr, result.stderr
    assert result.returncode == 2, (result.returncode, result.stdout[-500:], result.stderr)
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert re.match(r"\w+\.py: |convzoo( train)?: ", lines[0])
    assert len(lines[0]) < 700
    assert re.search(part, lines[0]), lines[0]
    assert _state(inputs) == before
    assert _state(tmp_path) == {}


@pytest.mark.parametrize("index", range(len(_RECORDS["metrics.jsonl"]) - 1))
def test_training_goes_on_with_damaged_metrics_and_keeps_them(index, inputs, tmp_path):
    workdir, content = tmp_path / "run", _RECORDS["metrics.jsonl"][index]
    content = content if isinstance(content, bytes) else content.encode()
    shutil.copytree(inputs / "records" / _record("metrics.jsonl", index), workdir)
    result = run("train.py", f"--config={TINY}", f"--workdir={workdir}", "--config.epochs=1.0")
    assert result.returncode == 0, result.stderr
    kept = [path.read_bytes() for path in workdir.glob("metrics.jsonl.damaged_*")]
    assert kept == ([content] if content.endswith(b"\n") else [])  # a line that a kill has cut off is worth nothing


def test_a_folder_that_cannot_be_written(inputs):
    """It may be possible later, so the status is 1."""
    result = run("scripts/export.py", f"--workdir={inputs}/run", "--output=/proc/nothing")
    assert result.returncode == 1
    assert result.stderr.startswith("export.py: cannot write to '/proc/nothing' (")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("train.py", f"--config={TINY}", "--workdir=s3://bucket/run"),
        ("train.py", f"--config={TINY}", "--workdir=OUT/w", "--config.data.source=folder:s3://bucket/images"),
        ("train.py", f"--config={TINY}", "--workdir=OUT/w", "--config.init.weights=s3://bucket/run"),
        ("eval.py", "--workdir=s3://bucket/run"),
        ("eval.py", "--workdir=IN/run", "--checkpoint=s3://bucket/run/checkpoints/ckpt-3"),
        ("scripts/export.py", "--workdir=IN/run", "--output=s3://bucket/saved_model"),
        ("scripts/classify.py", "--model=s3://bucket/saved_model", "IN/good.png"),
    ],
)
def test_a_file_system_that_cannot_be_reached(arguments, inputs, tmp_path):
    result = run(*(word.replace("IN/", f"{inputs}/").replace("OUT/", f"{tmp_path}/") for word in arguments))
    assert result.returncode in (1, 2)
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert "s3://bucket" in result.stderr
    assert _state(tmp_path) == {}
