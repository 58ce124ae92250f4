#!/usr/bin/env bash
# Runs a data server, which produces the images of training runs on other machines. Flags: scripts/data_service.py.
#
#   ./scripts/data_service.sh --port=5050
#   ./scripts/data_service.sh --port=5050 --host=10.0.0.7    # if other machines do not know its host name
set -euo pipefail
project=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/environment.sh
. "$project/scripts/environment.sh"
cd "$project"
use_environment cpu
cd "$OLDPWD" # relative paths of the data start here
export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-2}
exec python "$project/scripts/data_service.py" "$@"
