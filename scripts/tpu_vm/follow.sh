#!/usr/bin/env bash
# Follows the log of the training on a TPU VM. Ctrl-C ends this script and not the training.
#
#   scripts/tpu_vm/follow.sh --name=my-tpu --zone=us-central1-a [--project=...] [--dry-run]
set -euo pipefail
# shellcheck source=scripts/tpu_vm/common.sh
. "$(dirname "$0")/common.sh"
read_flags "$@"
on_vm 'convzoo/scripts/tpu_vm/on_vm.sh follow'
