# syntax=docker/dockerfile:1
# Two images: `docker build --target cpu .` and `--target gpu .`. Neither contains torch: workers run ONNX Runtime.
ARG PYTHON_VERSION=3.12

FROM python:${PYTHON_VERSION}-slim AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv /opt/tagmill
ENV PATH=/opt/tagmill/bin:$PATH
COPY . .

FROM builder AS build-cpu
RUN --mount=type=cache,target=/root/.cache/pip pip install --constraint constraints.txt '.[cpu,cloud,heif,parquet,postgres,ops]'

FROM builder AS build-gpu
# The extra installs CUDA and cuDNN as wheels; the host needs only the driver and the NVIDIA container toolkit.
RUN --mount=type=cache,target=/root/.cache/pip pip install --constraint constraints.txt '.[gpu,gpu-decode,cloud,heif,parquet,postgres,ops]'

FROM python:${PYTHON_VERSION}-slim AS runtime
RUN groupadd --gid 10001 tagmill \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin tagmill \
    # a new volume inherits the owner of the folder that it is mounted over
    && install --directory --owner=10001 --group=10001 /models /cache /srv/tagmill
ENV PATH=/opt/tagmill/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /srv/tagmill
USER 10001:10001
CMD ["tagmill", "--help"]

FROM runtime AS gpu
COPY --from=build-gpu /opt/tagmill /opt/tagmill

# last, so that a build without --target builds this image
FROM runtime AS cpu
COPY --from=build-cpu /opt/tagmill /opt/tagmill
