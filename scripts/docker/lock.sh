#!/usr/bin/env bash
# Writes the pinned requirements of the images, tpu.txt and gpu.txt, from setup.py. Needs uv (pip install uv).
#
#   scripts/docker/lock.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
for device in tpu gpu; do
    # tensorboard imports pkg_resources, which later versions of setuptools lack. Without the exact version of
    # TensorFlow, uv chooses an older one that allows a newer h5py.
    uv pip compile setup.py --extra="$device" --python-version=3.11 --python-platform=x86_64-manylinux_2_28 \
        --constraints=<(printf '%s\n' 'setuptools<81' 'tensorflow==2.21.0') --quiet --no-annotate \
        --custom-compile-command=scripts/docker/lock.sh --output-file="scripts/docker/$device.txt"
done
