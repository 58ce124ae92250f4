#!/usr/bin/env bash
# Creates a TPU VM and installs the last commit of convzoo there, in a separate environment.
#
#   scripts/tpu_vm/create.sh --name=my-tpu --zone=us-central1-a --type=v5litepod-8 --spot
#
#   --name, --zone   name and zone of the TPU VM
#   --project        Cloud project; default: that of gcloud
#   --type           accelerator type (v5litepod-8); docs/cloud_tpu.md describes slices of several hosts
#   --version        runtime version (v2-alpha-tpuv5-lite); it must match the type
#   --spot           cheaper, and may be preempted at any time
#   --dry-run        print the commands without running them
set -euo pipefail
# shellcheck source=scripts/tpu_vm/common.sh
. "$(dirname "$0")/common.sh"
read_flags "$@"
create
install
