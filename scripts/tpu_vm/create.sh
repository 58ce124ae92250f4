#!/usr/bin/env bash
# Makes a TPU VM and installs convzoo's last commit there, in an environment of its own.
#
#   scripts/tpu_vm/create.sh --name=my-tpu --zone=us-central1-a --type=v5litepod-8 --spot
#
#   --name, --zone   of the TPU VM
#   --project        Cloud project; default: gcloud's own
#   --type           accelerator type (v5litepod-8), of one host: slices of several hosts were not tried and get convzoo
#                    on their first host alone
#   --version        runtime version (v2-alpha-tpuv5-lite); it has to fit the type
#   --spot           cheaper, and may be taken away at any time
#   --dry-run        print the commands and give none
set -euo pipefail
# shellcheck source=scripts/tpu_vm/common.sh
. "$(dirname "$0")/common.sh"
read_flags "$@"
create
install
