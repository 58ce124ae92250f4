r"""Whether every network is legal on a TPU, by the kernels of TensorFlow's own wheel for TPUs; no TPU is needed.

    scripts/tpu_ops.sh --output=tpu_ops.json               # makes an environment with that wheel, and runs this there
    scripts/tpu_ops.sh --networks='*condconv*'

Forward and backward pass of each are lowered in mixed bfloat16 at the network's own size. --output keeps what was found
after every network, and the same command goes on with the others. Exit status 1 if a network is not legal.
"""

import json
import sys

from absl import flags

from convzoo.training import program

NETWORKS = flags.DEFINE_string("networks", "*", "Names with shell wildcards.")
OUTPUT = flags.DEFINE_string("output", None, "A JSON file: the network's problem by its name, null for none.")


def main():
    import keras
    import tensorflow as tf

    from convzoo import layers, models
    from convzoo.tpu import bridge
    from convzoo.training.config import ConfigError
    from convzoo.training.files import read_text

    names = models.list_models(NETWORKS.value)
    if not names:
        raise ConfigError(f"no network is called --networks={NETWORKS.value}; models.list_models() has their names")
    bridge.check_wheel()
    versions, found = {"tensorflow": tf.__version__, "keras": keras.__version__}, {}
    if OUTPUT.value and tf.io.gfile.exists(OUTPUT.value):
        try:
            before = json.loads(read_text(OUTPUT.value))
            found = before.pop("problems")
        except (ValueError, KeyError, AttributeError) as error:
            raise ConfigError(f"--output={OUTPUT.value} is not from this program; choose another name") from error
        if before != versions:
            print(f"{OUTPUT.value} is of other versions ({before}): everything is asked again", flush=True)
            found = {}
    keras.config.set_dtype_policy("mixed_bfloat16")
    layers.set_target("tpu")
    for number, name in enumerate(names, start=1):
        if name not in found:
            info = models.info(name)
            model = models.create_model(name, input_shape=(info.input_size, info.input_size, 3))
            found[name] = bridge.problem_of(model)
            keras.backend.clear_session()
            if OUTPUT.value:
                program.write_output(OUTPUT.value, json.dumps({**versions, "problems": found}, indent=2) + "\n")
        print(f"{number}/{len(names)} {name}: {found[name] or 'legal'}", flush=True)
    refused = [name for name in names if found[name]]
    print(f"{len(names) - len(refused)} of {len(names)} networks are legal on a TPU, by tensorflow {tf.__version__}")
    if refused:
        sys.exit(1)


if __name__ == "__main__":
    program.run(main)
