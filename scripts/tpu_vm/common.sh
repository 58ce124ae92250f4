# shellcheck shell=bash
# Sourced by the scripts beside it: their flags, and the commands that more than one of them gives.

usage() {
    sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "$0"
}

mistake() {
    echo "$(basename "$0"): $1" >&2
    exit 2
}

# Reads --name, --zone and the other flags below; what stands behind -- is left in the array `rest`.
# shellcheck disable=SC2034  # poll is train.sh's
read_flags() {
    name='' zone='' project='' type=v5litepod-8 version=v2-alpha-tpuv5-lite spot='' dry_run='' poll=60 rest=()
    while [ $# -gt 0 ]; do
        case $1 in
            --name=?*) name=${1#*=} ;;
            --zone=?*) zone=${1#*=} ;;
            --project=?*) project=${1#*=} ;;
            --type=?*) type=${1#*=} ;;
            --version=?*) version=${1#*=} ;;
            --poll=?*) poll=${1#*=} ;;
            --spot) spot=yes ;;
            --dry-run) dry_run=yes ;;
            --help) usage; exit 0 ;;
            --) shift; rest=("$@"); break ;;
            *) mistake "cannot read $1; see --help" ;;
        esac
        shift
    done
    [ -n "$name" ] || mistake "--name is missing; see --help"
    [ -n "$zone" ] || mistake "--zone is missing; see --help"
    [[ $poll =~ ^[0-9]+(\.[0-9]+)?$ ]] || mistake "--poll=$poll is no number of seconds"
    if [ -z "$dry_run" ] && ! command -v gcloud > /dev/null; then
        mistake "gcloud is missing; install the Google Cloud CLI, or use --dry-run"
    fi
}

# gcloud compute tpus tpu-vm VERB ..., for the chosen zone and project; only printed with --dry-run.
tpu_vm() {
    local command=(gcloud compute tpus tpu-vm "$@" "--zone=$zone" ${project:+"--project=$project"})
    if [ -n "$dry_run" ]; then
        printf '%q ' "${command[@]}"
        echo
    else
        "${command[@]}"
    fi
}

# A command on the TPU VM.
on_vm() {
    tpu_vm ssh "$name" --worker=0 "--command=$1"
}

create() {
    tpu_vm create "$name" "--accelerator-type=$type" "--version=$version" ${spot:+--spot}
}

# Brings the last commit there and makes the environment.
install() {
    local project_folder archive code=0
    project_folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
    archive=$(mktemp -d)/convzoo.tar.gz
    # In one chain: whoever asks whether it worked switches `set -e` off.
    git -C "$project_folder" archive -o "$archive" HEAD &&
        tpu_vm scp "$archive" "$name:convzoo.tar.gz" --worker=0 &&
        on_vm 'mkdir -p convzoo && tar -xzf convzoo.tar.gz -C convzoo && convzoo/scripts/tpu_vm/on_vm.sh install' ||
        code=$?
    rm -r "$(dirname "$archive")"
    return $code
}

delete() {
    tpu_vm delete "$name" --quiet
}
