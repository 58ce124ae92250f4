#!/usr/bin/env bash
# Deletes a TPU VM and its disk. Files in gs:// remain.
#
#   scripts/tpu_vm/delete.sh --name=my-tpu --zone=us-central1-a [--project=...] [--dry-run]
set -euo pipefail
# shellcheck source=scripts/tpu_vm/common.sh
. "$(dirname "$0")/common.sh"
read_flags "$@"
delete
