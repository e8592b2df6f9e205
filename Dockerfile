# The HTTP server: docker build --target cpu -t cqdino . (or --target cuda); see docs/serving.md.
# An index with CPU builds of torch makes the CPU image smaller: --build-arg PIP_INDEX_URL=...
ARG CUDA_IMAGE=nvidia/cuda:13.0.1-devel-ubuntu24.04

FROM ubuntu:24.04 AS base
ENV DEBIAN_FRONTEND=noninteractive PYTHONUNBUFFERED=1
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 server
WORKDIR /app
EXPOSE 8000
HEALTHCHECK --start-period=120s CMD ["/opt/venv/bin/python", "-c", \
    "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=5)"]
ENTRYPOINT ["/opt/venv/bin/python", "projects_tools/serve.py", "--host", "0.0.0.0"]

FROM ubuntu:24.04 AS cpu-build
ENV DEBIAN_FRONTEND=noninteractive FORCE_CUDA=0
ARG PIP_INDEX_URL
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential git python3-dev python3-venv
WORKDIR /app
COPY . .
RUN bash projects_tools/install.sh --venv /opt/venv

FROM ${CUDA_IMAGE} AS cuda-build
ENV DEBIAN_FRONTEND=noninteractive FORCE_CUDA=1
ARG TORCH_CUDA_ARCH_LIST="8.0;8.6;8.9;9.0+PTX"
ARG PIP_INDEX_URL
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential git python3-dev python3-venv
WORKDIR /app
COPY . .
RUN bash projects_tools/install.sh --venv /opt/venv

FROM base AS cpu
COPY --from=cpu-build /opt/venv /opt/venv
COPY --from=cpu-build /app /app
USER server

FROM base AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=cuda-build /opt/venv /opt/venv
COPY --from=cuda-build /app /app
USER server
