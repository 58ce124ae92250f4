# shellcheck shell=bash
# Sourced by the other scripts: makes sure that `python` has convzoo and what it needs.
#
#   use_environment EXTRAS [TENSORFLOW]
#
# An active virtual or conda environment is used as it is found, and a TensorFlow in it is never replaced: the wheel for
# TPUs and the ordinary one install the same folder. Without an active environment one is made in the project's folder,
# and for TENSORFLOW, a version or "tpu" for the wheel for TPUs, another one in any case.

use_environment() {
    local extras=$1 tensorflow=${2:-} folder=.venv python stamp
    if [ -n "$tensorflow" ]; then
        folder=.venv-tensorflow-$tensorflow
    elif [ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]; then
        folder=
    fi
    if [ -n "$folder" ]; then
        if [ ! -x "$folder/bin/python" ]; then
            python=$(find_python) || return 1
            echo "making $folder with $python"
            # Debian's Python without its package python3-venv fails here and leaves half an environment.
            "$python" -m venv "$folder" || { rm -rf "$folder"; return 1; }
        fi
        # shellcheck disable=SC1091
        . "$folder/bin/activate"
    fi
    stamp=$(python -c 'import sys; print(sys.prefix)')/.convzoo-$(pwd | cksum | cut -d ' ' -f 1)-$extras
    if [ "$stamp" -nt setup.py ]; then
        return 0
    fi
    if [ "$tensorflow" = tpu ]; then
        # Its libtpu is another than that of the compiler alone.
        extras=$({ echo "$extras" | tr , '\n' | grep -vxE 'cpu|tpu|tpu-compile' || true; echo tpu; } | paste -sd ,)
        tensorflow=
    elif [ -z "$tensorflow" ] && python -c 'import importlib.util as u, sys; sys.exit(u.find_spec("tensorflow") is None)'; then
        extras=$(echo ",$extras," | sed 's/,cpu,/,/; s/^,//; s/,$//')
    fi
    echo "installing convzoo and what it needs (a few minutes the first time)"
    python -m pip install --quiet --disable-pip-version-check -e ".${extras:+[$extras]}" \
        ${tensorflow:+"tensorflow==$tensorflow"} || return 1
    touch "$stamp"
}

find_python() {
    local name
    for name in python3.11 python3.12 python3; do
        if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; then
            echo "$name"
            return 0
        fi
    done
    echo "convzoo needs Python 3.11 or 3.12, and neither python3.11, python3.12 nor python3 is one" >&2
    return 1
}
