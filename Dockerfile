# Image whose entry point is `convzoo`, for Cloud TPU or for GPUs. It has not been built.
#
#   docker build --build-arg=DEVICE=tpu --tag=convzoo:tpu .
#   docker build --build-arg=DEVICE=gpu --tag=convzoo:gpu .
#
# DEVICE is an extra of setup.py: tpu installs tensorflow-tpu, gpu installs TensorFlow with the CUDA libraries.
# docs/cloud_tpu.md says how to run it and how to renew scripts/docker/*.txt.
ARG DEVICE=tpu
ARG PYTHON=3.11.14

FROM python:${PYTHON}-slim-bookworm AS wheel
ARG VERSION=0.1.dev0
COPY . /source
# The image has no git, from which the version would come.
RUN SETUPTOOLS_SCM_PRETEND_VERSION=${VERSION} pip wheel --no-cache-dir --no-deps --wheel-dir=/wheels /source

FROM python:${PYTHON}-slim-bookworm AS base
ARG DEVICE
# The requirements are a layer of their own, because they change less often than convzoo.
COPY scripts/docker/${DEVICE}.txt /tmp/requirements.txt
RUN pip install --no-cache-dir --no-deps --requirement=/tmp/requirements.txt
COPY --from=wheel /wheels /tmp/wheels
RUN pip install --no-cache-dir --no-deps /tmp/wheels/*.whl

FROM base AS gpu

FROM base AS tpu
# TensorFlow finds the chips through the PJRT plug-in of libtpu only with these.
ENV PJRT_DEVICE=TPU \
    NEXT_PLUGGABLE_DEVICE_USE_C_API=true \
    TF_PLUGGABLE_DEVICE_LIBRARY_PATH=/usr/local/lib/python3.11/site-packages/libtpu/libtpu.so \
    TF_XLA_FLAGS=--tf_mlir_enable_mlir_bridge=true

# The build argument names the stage.
FROM ${DEVICE}
WORKDIR /work
ENTRYPOINT ["convzoo"]
