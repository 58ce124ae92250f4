#!/usr/bin/env bash
# Checks style and types and runs the tests: all under the TensorFlow backend of Keras, layers and models also under JAX.
#
#   ./scripts/test.sh                              # the newest supported TensorFlow
#   TENSORFLOW=2.19.1 ./scripts/test.sh            # another version, in a separate environment
#   TENSORFLOW=tpu ./scripts/test.sh               # the tensorflow-tpu wheel, on the CPU
#   ./scripts/test.sh tests/data -k digits         # arguments of pytest; TensorFlow only
#   ./scripts/test.sh -m slow                      # slow tests: trains and exports every network
set -euo pipefail
cd "$(dirname "$0")/.."
export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-3}
# Without these, the TPU libraries search for a TPU.
export JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1

# shellcheck source=scripts/environment.sh
. scripts/environment.sh
use_environment cpu,cloud,test,tpu-compile "${TENSORFLOW:-}"

ruff check .
ruff format --check --quiet .
basedpyright  # layers/ and models/
shellcheck --external-sources scripts/*.sh scripts/*/*.sh .ci/run
if [ $# -gt 0 ]; then
    exec python -m pytest "$@"
fi
# Most of the time of these tests is compilation of operations that run once, so XLA does not optimize them.
export XLA_FLAGS="--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false ${XLA_FLAGS:-}"
KERAS_BACKEND=jax python -m pytest --numprocesses=2 --dist=loadgroup --quiet -m "not slow and not graphs" tests/layers tests/models
KERAS_BACKEND=jax python -m pytest --numprocesses=2 --dist=loadgroup --quiet tests/porting/test_parity.py \
    -k "timm_tf_efficientnet_cc_b0_4e or drconv_shufflenet"
unset XLA_FLAGS
# Two processes and those that they start share the cores; more threads would wait for each other.
TF_NUM_INTRAOP_THREADS=1 KERAS_BACKEND=tensorflow python -m pytest --numprocesses=2 --dist=loadgroup --quiet tests
