#!/usr/bin/env bash
# Style and tests: everything under Keras's TensorFlow backend, layers and models under its JAX backend too.
#
#   ./scripts/test.sh                              # the newest supported TensorFlow
#   TENSORFLOW=2.19.1 ./scripts/test.sh            # another one, in an environment of its own
#   TENSORFLOW=tpu ./scripts/test.sh               # the wheel for TPUs, on this machine's CPU
#   ./scripts/test.sh tests/data -k digits         # some tests, with pytest's own options, under TensorFlow alone
#   ./scripts/test.sh -m slow                      # what is left out otherwise: every network trained and exported
set -euo pipefail
cd "$(dirname "$0")/.."
export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-2}
# The libraries for TPUs would look for one.
export JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1

# shellcheck source=scripts/environment.sh
. scripts/environment.sh
use_environment cpu,cloud,test,tpu-compile "${TENSORFLOW:-}"

ruff check .
ruff format --check --quiet .
shellcheck --external-sources scripts/*.sh scripts/tpu_vm/*.sh .ci/run
if [ $# -gt 0 ]; then
    exec python -m pytest "$@"
fi
KERAS_BACKEND=jax python -m pytest --numprocesses=2 --quiet -m "not slow and not graphs" tests/layers tests/models
KERAS_BACKEND=jax python -m pytest --numprocesses=2 --quiet tests/porting/test_parity.py \
    -k "timm_tf_efficientnet_cc_b0_4e or drconv_shufflenet"
KERAS_BACKEND=tensorflow python -m pytest --numprocesses=2 --quiet tests
