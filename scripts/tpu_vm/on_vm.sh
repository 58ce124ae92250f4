#!/usr/bin/env bash
# The part of the scripts in this folder that runs on the TPU VM.
#
#   on_vm.sh install          creates a separate environment with the tensorflow-tpu version of setup.py
#   on_vm.sh start FLAGS      runs train.py FLAGS in the background and restarts it after failures
#   on_vm.sh status FLAGS     prints not installed, stopped, running, busy (other FLAGS), finished or failed
#   on_vm.sh last | follow    prints the last lines of the log, or follows it
#   on_vm.sh run FLAGS        like start, in the foreground
#   on_vm.sh serve            on every host of a slice of several: serves its chips in the background, on port 8470, to the
#                             training on the first host, whose --tpu lists the hosts as grpc://ADDRESS:8470,...
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
environment=$HOME/convzoo-env
folder=$HOME/convzoo-run
failures_in_a_row=5 # runs shorter than `long_enough` before giving up
long_enough=600     # seconds
pause=${CONVZOO_PAUSE:-10} # seconds before a restart

install() {
    # The runtime images have older Pythons; uv installs its own. --target, because the system Python may be read-only.
    local uv=$HOME/convzoo-tools/bin/uv
    python3 -m pip install --quiet --upgrade --target "$HOME/convzoo-tools" uv
    "$uv" venv --quiet --allow-existing --python 3.11 "$environment"
    "$uv" pip install --quiet --python "$environment/bin/python" --editable "${project}[tpu]"
    touch "$environment/installed"
}

# Starts a TensorFlow server. start_grpc_tpu_worker belongs to the tensorflow-tpu wheel.
run_server() {
    exec 9> "$folder/server_lock"
    flock --nonblock 9 || { echo "on_vm.sh: a server is already running" >&2; exit 1; }
    set_environment --tpu=local
    exec "$environment/bin/start_grpc_tpu_worker"
}

# TensorFlow finds the chips through the PJRT plug-in of libtpu only if these are set before its import.
# With the flag --tpu=grpc://..., servers use the chips, those of this host too.
set_environment() {
    if [[ " $*" == *' --tpu=grpc://'* ]]; then
        export TPU_LOAD_LIBRARY=0
        return
    fi
    export PJRT_DEVICE=TPU
    export NEXT_PLUGGABLE_DEVICE_USE_C_API=true
    TF_PLUGGABLE_DEVICE_LIBRARY_PATH=$("$environment/bin/python" -c \
        'import importlib.util as u; print(u.find_spec("libtpu").submodule_search_locations[0] + "/libtpu.so")')
    [ -n "$TF_PLUGGABLE_DEVICE_LIBRARY_PATH" ] || return 1
    export TF_PLUGGABLE_DEVICE_LIBRARY_PATH
    export TF_XLA_FLAGS="${TF_XLA_FLAGS:-} --tf_mlir_enable_mlir_bridge=true"
}

# Trains until the last step. train.py resumes from the newest checkpoint of its workdir.
run() {
    local failures=0 begin code
    if ! set_environment "$@"; then
        echo "on_vm.sh: libtpu is not installed; giving up"
        echo failed > "$folder/end"
        return 1
    fi
    cd "$project"
    while true; do
        begin=$SECONDS code=0
        "$environment/bin/python" train.py "$@" || code=$?
        if [ $code -eq 0 ]; then
            echo finished > "$folder/end"
            return 0
        fi
        if [ $((SECONDS - begin)) -ge "$long_enough" ]; then failures=0; fi
        failures=$((failures + 1))
        # Status 2 (invalid flags or config) and 3 (loss not finite) would recur.
        if [ $code -eq 2 ] || [ $code -eq 3 ] || [ $failures -ge $failures_in_a_row ]; then
            echo "on_vm.sh: train.py ended with status $code; giving up"
            echo failed > "$folder/end"
            return 1
        fi
        echo "on_vm.sh: train.py ended with status $code; restarting it in $pause s"
        sleep "$pause"
    done
}

# Holds the lock while a training runs.
locked_run() {
    exec 9> "$folder/lock"
    flock --nonblock 9 || { echo "on_vm.sh: a training is already running" >&2; exit 1; }
    rm -f "$folder/end"
    echo "$*" > "$folder/flags"
    run "$@"
}

same_flags() {
    [ "$(cat "$folder/flags" 2> /dev/null)" = "$*" ]
}

status() {
    if [ ! -e "$environment/installed" ]; then
        echo not installed
    elif [ -e "$folder/lock" ] && ! flock --nonblock "$folder/lock" true; then
        # Right after a start, the file still has the flags of the previous training.
        if ! same_flags "$@"; then sleep 2; fi
        if same_flags "$@"; then echo running; else echo busy; fi
    elif [ -e "$folder/end" ]; then
        cat "$folder/end"
    else
        echo stopped
    fi
}

mkdir -p "$folder"
case ${1:-} in
    install) install ;;
    start) setsid nohup "${BASH_SOURCE[0]}" run "${@:2}" >> "$folder/train.log" 2>&1 < /dev/null & ;;
    serve) setsid nohup "${BASH_SOURCE[0]}" run_server >> "$folder/server.log" 2>&1 < /dev/null & ;;
    run_server) run_server ;;
    run) locked_run "${@:2}" ;;
    status) status "${@:2}" ;;
    last) tail -n 30 "$folder/train.log" ;;
    follow) tail -n 100 -F "$folder/train.log" ;;
    *) sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac
