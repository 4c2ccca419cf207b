# syntax=docker/dockerfile:1
# Two images: `docker build --target cpu .` and `--target gpu .`. Neither contains torch: workers run ONNX Runtime.
# Both are for linux/amd64. `make digests` pins the base image by its digest.
ARG BASE=python:3.12.14-slim-trixie

FROM ${BASE} AS builder
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# the images contain no pip of their own: it installs from here
RUN python -m venv --without-pip /opt/tagmill

# What Tagmill needs, by hash: `make lock` writes these files. The layer stays as it is until they change.
FROM builder AS dependencies-cpu
COPY deploy/image/requirements-cpu.txt /tmp/requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/tagmill/bin/python install --require-hashes --only-binary :all: --requirement /tmp/requirements.txt

FROM builder AS dependencies-gpu
# CUDA and cuDNN are among the wheels; the host needs only the driver and the NVIDIA container toolkit.
COPY deploy/image/requirements-gpu.txt /tmp/requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/tagmill/bin/python install --require-hashes --only-binary :all: --requirement /tmp/requirements.txt

# Tagmill itself, without what it needs.
FROM builder AS code
COPY deploy/image/requirements-build.txt /tmp/requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --require-hashes --only-binary :all: --requirement /tmp/requirements.txt
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip \
    pip wheel --no-deps --no-build-isolation --wheel-dir /wheel .

FROM ${BASE} AS runtime
ARG TAGMILL_VERSION=0.1.0
LABEL org.opencontainers.image.title="Tagmill" \
      org.opencontainers.image.version="${TAGMILL_VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 tagmill \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin tagmill \
    # a new volume inherits the owner of the folder that it is mounted over
    && install --directory --owner=10001 --group=10001 /models /cache /textfile /srv/tagmill
ENV PATH=/opt/tagmill/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /srv/tagmill
CMD ["tagmill", "--help"]

FROM runtime AS gpu
COPY --from=dependencies-gpu /opt/tagmill /opt/tagmill
RUN --mount=type=bind,from=code,source=/wheel,target=/wheel \
    pip --python /opt/tagmill/bin/python install --no-cache-dir --no-index --no-deps /wheel/*.whl
USER 10001:10001

# last, so that a build without --target builds this image
FROM runtime AS cpu
COPY --from=dependencies-cpu /opt/tagmill /opt/tagmill
RUN --mount=type=bind,from=code,source=/wheel,target=/wheel \
    pip --python /opt/tagmill/bin/python install --no-cache-dir --no-index --no-deps /wheel/*.whl
USER 10001:10001
