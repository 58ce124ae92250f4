#!/usr/bin/env bash
# Trains on a TPU VM to the end, whatever is taken away meanwhile. Behind -- are the flags of train.py.
#
#   scripts/tpu_vm/train.sh --name=my-tpu --zone=us-central1-a --type=v5litepod-8 --spot -- \
#       --config=configs/efficientnet_condconv_imagenet.py:b0_8e --workdir=gs://my-bucket/b0_8e
#
# A TPU VM of one host that is not there is made, as create.sh makes it and with the same flags; one that was preempted
# is deleted and made anew; a training that does not run is started and goes on from its newest checkpoint. --poll is the
# seconds between two looks (60). Ctrl-C ends the looking and not the training; the same command goes on. The TPU VM
# stays when the training has ended: delete.sh deletes it.
#
# Exit status: 0 if the training reached its last step, 1 if it failed, 2 for a mistake.
set -euo pipefail
# shellcheck source=scripts/tpu_vm/common.sh
. "$(dirname "$0")/common.sh"
read_flags "$@"

workdir=
for flag in ${rest+"${rest[@]}"}; do
    case $flag in
        --workdir=gs://?*) workdir=${flag#*=} ;;
        --workdir=*) mistake "$flag is on the TPU VM and lost with it; use a folder in gs://" ;;
    esac
done
[ -n "$workdir" ] || mistake "the flags of train.py are missing, --workdir=gs://... among them; write them behind --"

# State of the TPU VM; "absent" if there is none.
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

say() {
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
    # A first look that fails is a mistake; later the network or Google Cloud may be away for a while.
    state=$(state_of_vm) || { [ -n "$seen" ] || exit 1; state=unknown; }
    seen=yes
    case $state in
        absent)
            say "$name is not there: making it"
            # Where there is no capacity now there may be some later.
            { create && install; } || say "$name could not be made; trying again in $poll s"
            ;;
        STOPPED) mistake "$name was stopped; start it (gcloud compute tpus tpu-vm start), or delete it" ;;
        PREEMPTED | TERMINATED)
            say "$name is $state: deleting it, to make it anew"
            if delete; then
                continue
            fi
            say "$name could not be deleted; trying again in $poll s"
            ;;
        READY)
            training=$(on_vm "$status") || training=unknown
            training=${training##*$'\n'}
            say "$name is ready, the training is $training"
            case $training in
                running) started=yes ;;
                busy) mistake "another training runs on $name; wait for it, or use another TPU VM" ;;
                'not installed') install || say "installing failed; trying again in $poll s" ;;
                stopped | finished | failed)
                    # An end that was reached before this command is that of an earlier one.
                    if [ -n "$started" ] && [ "$training" = finished ]; then
                        exit 0
                    elif [ -n "$started" ] && [ "$training" = failed ]; then
                        on_vm 'convzoo/scripts/tpu_vm/on_vm.sh last' || true
                        exit 1
                    elif on_vm "$start"; then
                        started=yes
                    else
                        say "it could not be started; trying again in $poll s"
                    fi
                    ;;
            esac
            ;;
        *) say "$name is $state" ;;
    esac
    sleep "$poll"
done
