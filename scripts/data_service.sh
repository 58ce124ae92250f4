#!/usr/bin/env bash
# A data server, which makes the images of trainings on other machines. Flags are those of scripts/data_service.py.
#
#   ./scripts/data_service.sh --port=5050
#   ./scripts/data_service.sh --port=5050 --host=10.0.0.7    # where others do not know this machine by its name
set -euo pipefail
project=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/environment.sh
. "$project/scripts/environment.sh"
cd "$project"
use_environment cpu
cd "$OLDPWD" # from there data are read whose path does not begin with a slash
export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-2}
exec python "$project/scripts/data_service.py" "$@"
