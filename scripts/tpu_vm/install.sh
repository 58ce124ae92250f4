#!/usr/bin/env bash
# Installs the last commit of convzoo on all hosts of a TPU VM, in a separate environment.
#
#   scripts/tpu_vm/install.sh --name=my-tpu --zone=us-central1-a [--project=...] [--dry-run]
set -euo pipefail
# shellcheck source=scripts/tpu_vm/common.sh
. "$(dirname "$0")/common.sh"
read_flags "$@"
install
