#!/usr/bin/env bash
# Trains on a TPU VM until the last step, and recovers from preemptions and failures. Flags of train.py follow --.
#
#   scripts/tpu_vm/train.sh --name=my-tpu --zone=us-central1-a --type=v5litepod-8 --spot -- \
#       --config=configs/efficientnet_condconv_imagenet.py:b0_8e --workdir=gs://my-bucket/b0_8e
#
# Creates the TPU VM if it does not exist, with the flags of create.sh. Deletes and recreates a preempted one. Starts the
# training if it is not running; it resumes from its newest checkpoint. Queries the state every --poll seconds (60).
# Ctrl-C ends this script and not the training; the same command continues. The TPU VM remains after the training:
# delete.sh deletes it.
#
# Exit status: 0 if the training reached its last step, 1 if it failed, 2 for invalid flags.
set -euo pipefail
# shellcheck source=scripts/tpu_vm/common.sh
. "$(dirname "$0")/common.sh"
read_flags "$@"

workdir=
for flag in ${rest+"${rest[@]}"}; do
    case $flag in
        --workdir=gs://?*) workdir=${flag#*=} ;;
        --workdir=*) usage_error "$flag is on the TPU VM and would be lost with it; use a folder in gs://" ;;
    esac
done
[ -n "$workdir" ] || usage_error "--workdir=gs://... is missing; write the flags of train.py after --"

# Prints the state of the TPU VM; "absent" if it does not exist.
state_of_vm() {
    local answer
    if answer=$(tpu_vm describe "$name" '--format=value(state)' 2>&1); then
        echo "$answer" | tail -n 1
    elif [[ $answer == *NOT_FOUND* ]]; then
        echo absent
    else
        echo "$answer" >&2
        return 1
    fi
}

log() {
    echo "$(date '+%F %T') $1"
}

flags=$(printf ' %q' --tpu=local "${rest[@]}")
start="convzoo/scripts/tpu_vm/on_vm.sh start$flags"
status="if [ -x convzoo/scripts/tpu_vm/on_vm.sh ]; then convzoo/scripts/tpu_vm/on_vm.sh status$flags; else echo not installed; fi"
if [ -n "$dry_run" ]; then
    tpu_vm describe "$name" '--format=value(state)'
    create
    install
    on_vm "$start"
    on_vm "$status"
    exit 0
fi
started='' seen=''
while true; do
    # A failure of the first query is an error; later failures may be temporary.
    state=$(state_of_vm) || { [ -n "$seen" ] || exit 1; state=unknown; }
    seen=yes
    case $state in
        absent)
            log "$name does not exist; creating it"
            # Capacity may become available later.
            { create && install; } || log "creating $name failed; trying again in $poll s"
            ;;
        STOPPED) usage_error "$name is stopped; start it with gcloud compute tpus tpu-vm start, or delete it" ;;
        PREEMPTED | TERMINATED)
            log "$name is $state; deleting and recreating it"
            if delete; then
                continue
            fi
            log "deleting $name failed; trying again in $poll s"
            ;;
        READY)
            training=$(on_vm "$status") || training=unknown
            training=${training##*$'\n'}
            log "$name is ready, the training is $training"
            case $training in
                running) started=yes ;;
                busy) usage_error "another training runs on $name; wait for it, or use another TPU VM" ;;
                'not installed') install || log "installing failed; trying again in $poll s" ;;
                stopped | finished | failed)
                    # A result from before this command belongs to an earlier training.
                    if [ -n "$started" ] && [ "$training" = finished ]; then
                        exit 0
                    elif [ -n "$started" ] && [ "$training" = failed ]; then
                        on_vm 'convzoo/scripts/tpu_vm/on_vm.sh last' || true
                        exit 1
                    elif on_vm "$start"; then
                        started=yes
                    else
                        log "starting the training failed; trying again in $poll s"
                    fi
                    ;;
            esac
            ;;
        *) log "$name is $state" ;;
    esac
    sleep "$poll"
done
