"""Checks every network against the TPU kernels of the tensorflow-tpu wheel; no TPU is needed.

    benchmarks/tpu_kernels.sh --records=tpu_kernels.jsonl   # runs this in an environment that has the wheel
    benchmarks/tpu_kernels.sh --networks='*condconv*'

Lowers the forward and backward pass of each network in mixed bfloat16 at the network's own input size. Every result is
appended to --records at once, and the same command continues with the remaining networks. Exit status 1 if a network
fails.
"""

import sys

from absl import flags

from convzoo.benchmarks import records
from convzoo.cli import program
from convzoo.errors import ConfigError

NETWORKS = flags.DEFINE_string("networks", "*", "Names with shell wildcards.")
RECORDS = flags.DEFINE_string("records", None, "JSON-lines file of the results; a problem of null means none.")


def main():
    import keras
    import tensorflow as tf

    from convzoo import layers, models
    from convzoo.tpu import kernel_support

    names = models.list_models(NETWORKS.value)
    if not names:
        raise ConfigError(
            f"no network matches --networks={NETWORKS.value}; convzoo.models.list_models() lists the names"
        )
    kernel_support.check_tpu_wheel()
    versions = {"tensorflow": tf.__version__, "keras": keras.__version__}
    found = records.read(RECORDS.value, "kernels", versions=versions) if RECORDS.value else {}
    if RECORDS.value:
        program.check_folder(RECORDS.value, "records")
    keras.config.set_dtype_policy("mixed_bfloat16")
    layers.set_target("tpu")
    for number, name in enumerate(names, start=1):
        if name not in found:
            size = models.info(name).input_size
            model = models.create_model(name, input_shape=(size, size, 3))
            found[name] = {"problem": kernel_support.find_problem(model), "versions": versions}
            keras.backend.clear_session()
            if RECORDS.value:
                records.append(RECORDS.value, "kernels", name, found[name])
        print(f"{number}/{len(names)} {name}: {found[name]['problem'] or 'supported'}", flush=True)
    failed = [name for name in names if found[name]["problem"]]
    print(f"TPUs support {len(names) - len(failed)} of {len(names)} networks, by tensorflow {tf.__version__}")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    program.run(main)
