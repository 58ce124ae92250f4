#!/usr/bin/env bash
# scripts/tpu_ops.py in an environment of its own, with the TensorFlow for TPUs that setup.py pins. Flags are passed on.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/environment.sh
. scripts/environment.sh
use_environment tpu tpu
export TPU_SKIP_MDS_QUERY=1 # there is no metadata server to ask for a TPU
export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-3}
exec python scripts/tpu_ops.py "$@"
