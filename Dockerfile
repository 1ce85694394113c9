# kitsam in a container, for a CPU or for NVIDIA GPUs. Not built where kitsam is tested.
#   docker build --tag kitsam .                          CPU
#   docker build --build-arg TORCH=cu128 --tag kitsam .  CUDA 12.8; run with --gpus all
#   docker run --rm --gpus all --shm-size=8g --user "$(id -u):$(id -g)" -v "$PWD:/data" kitsam doctor
# NCCL and loaders use shared memory, of which a container has 64 MiB unless --shm-size says more.
FROM python:3.12-slim

# Which of PyTorch's indexes: cpu, cu126, cu128 (https://pytorch.org/get-started/locally).
ARG TORCH=cpu
# torch.compile and flex_attention, which only a GPU uses, need a C compiler.
RUN if [ "$TORCH" != cpu ]; then \
        apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*; \
    fi

COPY . /source
RUN pip install --no-cache-dir --index-url "https://download.pytorch.org/whl/$TORCH" "torch>=2.6,<2.14" "torchvision<0.29" \
    && pip install --no-cache-dir "/source[io,dicom_seg]" \
    && rm -rf /source

# Weights and shards of sets at an address are kept here: mount it to keep them.
ENV KITSAM_CACHE=/cache
RUN mkdir -m 1777 /cache
WORKDIR /data
ENTRYPOINT ["kitsam"]
CMD ["--help"]
