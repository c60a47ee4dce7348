# Not built so far: the base images of CUDA were out of reach. What follows the base is Dockerfile's, which is tried.
#
#   docker build -t trtlab-gpu -f deploy/image/gpu.Dockerfile .
#   docker run --gpus all --read-only --ipc=private --shm-size=1g -v "$PWD:/app:ro" trtlab-gpu run --serve my.yaml
#
# The driver must take CUDA 12.6 (560 or later). Plans are of one GPU model and one TensorRT: build them where they
# run (docs/gpu.md), in a volume at /models.
ARG CUDA=12.6.3
# pycuda is compiled, and needs the headers.
FROM nvidia/cuda:${CUDA}-devel-ubuntu24.04 AS build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml setup.py README.md LICENSE NOTICE ./
COPY shm shm
COPY stages stages
COPY pipeline pipeline
# What the extra `gpu` names, with the TensorRT of this CUDA.
ARG TENSORRT=10.9.0.34
RUN python3 -m venv /opt/trtlab && /opt/trtlab/bin/pip install --no-cache-dir ".[serve,video]" \
    "tensorrt-cu12==${TENSORRT}" "pycuda==2026.1" "nvidia-ml-py>=12,<14" "onnx>=1.16,<2"

# With libcurand, which pycuda loads; libcuda itself is the driver's.
FROM nvidia/cuda:${CUDA}-runtime-ubuntu24.04
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends python3 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/trtlab /opt/trtlab
ENV PATH=/opt/trtlab/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    TRTLAB_MODELS=/models \
    TRTLAB_RUN_DIR=/run/trtlab/run
WORKDIR /app
COPY configs configs
COPY models models

ARG MODELS=""
RUN mkdir -p /run/trtlab "$TRTLAB_MODELS" && chmod 1777 /run/trtlab \
    && if [ -n "$MODELS" ]; then pipeline models pull $MODELS; fi
VOLUME ["/run/trtlab"]

USER 10001:10000
EXPOSE 8000 8001 8002
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=10s --start-period=600s --retries=3 CMD ["pipeline", "status", "--probe", "ready"]
ENTRYPOINT ["pipeline"]
CMD ["serve", "configs/mnist.yaml", "--host", "0.0.0.0"]
