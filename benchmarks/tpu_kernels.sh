#!/usr/bin/env bash
# Runs benchmarks/tpu_kernels.py in an environment with the tensorflow-tpu wheel; passes its flags on.
set -euo pipefail
project=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/environment.sh
. "$project/scripts/environment.sh"
cd "$project"
use_environment tpu tpu
cd "$OLDPWD" # flags name files from there
export TPU_SKIP_MDS_QUERY=1 # there is no metadata server to ask for a TPU
export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-3}
exec python "$project/benchmarks/tpu_kernels.py" "$@"
