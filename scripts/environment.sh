# shellcheck shell=bash
# Sourced by other scripts: makes `python` an interpreter with convzoo and its requirements.
#
#   use_environment EXTRAS [TENSORFLOW]
#
# Uses the active virtual or conda environment and never replaces its TensorFlow, because tensorflow and tensorflow-tpu
# install into the same folder. Without an active environment, creates one in the project's folder. With TENSORFLOW, a
# version or "tpu" for the tensorflow-tpu wheel, always creates a separate one.

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
            echo "creating $folder with $python"
            # Without the package python3-venv, Debian's Python fails here and leaves an incomplete environment.
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
        # It requires another libtpu than tpu-compile.
        extras=$({ echo "$extras" | tr , '\n' | grep -vxE 'cpu|tpu|tpu-compile' || true; echo tpu; } | paste -sd ,)
        tensorflow=
    elif [ -z "$tensorflow" ] && python -c 'import importlib.util as u, sys; sys.exit(u.find_spec("tensorflow") is None)'; then
        extras=$(echo ",$extras," | sed 's/,cpu,/,/; s/^,//; s/,$//')
    fi
    echo "installing convzoo and its requirements (a few minutes the first time)"
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
    echo "convzoo needs Python 3.11 or 3.12; none of python3.11, python3.12 and python3 is one" >&2
    return 1
}
