# shellcheck shell=bash
# Sourced by the scripts in this folder: flags and shared commands.

usage() {
    sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "$0"
}

usage_error() {
    echo "$(basename "$0"): $1" >&2
    exit 2
}

# Reads --name, --zone and the other flags below; sets the array `rest` to the arguments after --.
# shellcheck disable=SC2034  # train.sh uses poll
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
            *) usage_error "unknown argument $1; see --help" ;;
        esac
        shift
    done
    [ -n "$name" ] || usage_error "--name is missing; see --help"
    [ -n "$zone" ] || usage_error "--zone is missing; see --help"
    [[ $poll =~ ^[0-9]+(\.[0-9]+)?$ ]] || usage_error "--poll=$poll is not a number of seconds"
    if [ -z "$dry_run" ] && ! command -v gcloud > /dev/null; then
        usage_error "gcloud is missing; install the Google Cloud CLI, or use --dry-run"
    fi
}

# Runs gcloud compute tpus tpu-vm VERB ... for the zone and project; prints it with --dry-run.
tpu_vm() {
    local command=(gcloud compute tpus tpu-vm "$@" "--zone=$zone" ${project:+"--project=$project"})
    if [ -n "$dry_run" ]; then
        printf '%q ' "${command[@]}"
        echo
    else
        "${command[@]}"
    fi
}

# Runs a command on the TPU VM: on_vm COMMAND [WORKER]. WORKER is 0, the first host, or "all".
on_vm() {
    tpu_vm ssh "$name" "--worker=${2:-0}" "--command=$1"
}

create() {
    tpu_vm create "$name" "--accelerator-type=$type" "--version=$version" ${spot:+--spot}
}

# Copies the last commit to all hosts of the TPU VM and creates the environment.
install() {
    local project_folder archive code=0
    project_folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
    archive=$(mktemp -d)/convzoo.tar.gz
    # One && chain, because callers that test the result disable `set -e`.
    git -C "$project_folder" archive -o "$archive" HEAD &&
        tpu_vm scp "$archive" "$name:convzoo.tar.gz" --worker=all &&
        on_vm 'mkdir -p convzoo && tar -xzf convzoo.tar.gz -C convzoo && convzoo/scripts/tpu_vm/on_vm.sh install' all ||
        code=$?
    rm -r "$(dirname "$archive")"
    return $code
}

delete() {
    tpu_vm delete "$name" --quiet
}
