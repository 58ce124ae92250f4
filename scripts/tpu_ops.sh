#!/usr/bin/env bash
# scripts/tpu_ops.py in an environment of its own, with the TensorFlow for TPUs that setup.py pins. Flags are passed on.
set -euo pipefail
project=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/environment.sh
. "$project/scripts/environment.sh"
cd "$project"
use_environment tpu tpu
cd "$OLDPWD" # flags name files from there
export TPU_SKIP_MDS_QUERY=1 # there is no metadata server to ask for a TPU
export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-3}
exec python "$project/scripts/tpu_ops.py" "$@"
