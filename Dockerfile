# syntax=docker/dockerfile:1
# The operator's image: the release binary with its SBOM, on a base with the C library, CA certificates and time zones; no
# shell, no package manager, user 65532.
#
#   docker buildx build --build-arg SOURCE_DATE_EPOCH="$(git log -1 --format=%ct)" \
#       --build-arg BUSBAR_COMMIT="$(git rev-parse --short=12 HEAD)" \
#       --output type=docker,rewrite-timestamp=true --tag busbar:0.1.0 .
#
# With these arguments the layer of a commit depends on nothing but its sources and the two bases below. `hack/release/image`
# assembles the same layer without a container engine.
#
# UNVERIFIED: the digests were taken from other projects, because no registry was reachable where this file was written. Check
# them before the first build (`docker buildx imagetools inspect rust:1.95.0-bookworm`), and take each new one with its tag.
ARG BUILD_IMAGE=rust:1.95.0-bookworm@sha256:6258907abe69656e41cd992e0b705cdcfabcbbe3db374f92ed2d47121282d4a1
ARG BASE_IMAGE=gcr.io/distroless/cc-debian12:nonroot@sha256:9dac0a79194e45a7da0158a9c6da57b217585af0786db3845d1f0ec1a0dd182f

FROM ${BUILD_IMAGE} AS build
WORKDIR /busbar
COPY . .
# The commit in `busbar --version`, and the time of everything that has one. `.git` is not in the context.
ARG BUSBAR_COMMIT=unknown
ARG SOURCE_DATE_EPOCH=0
# Paths of this build are not part of the binary.
ENV CARGO_INCREMENTAL=0 \
    CARGO_TERM_COLOR=never \
    RUSTFLAGS="--remap-path-prefix=/busbar=. --remap-path-prefix=/usr/local/cargo=cargo"
# Build caches are mounted, so that they are not part of a layer. `hack/release/rootfs` lays out what the image has.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/busbar/target \
    cargo build --release --locked --bin busbar \
 && hack/release/rootfs target/release/busbar /out

FROM ${BASE_IMAGE}
ARG BUSBAR_COMMIT=unknown
LABEL org.opencontainers.image.title="busbar" \
      org.opencontainers.image.description="A Kubernetes operator that keeps a business connected to its banks and financial-data providers" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${BUSBAR_COMMIT}"
COPY --from=build /out/usr /usr
# The ledger's directory: mount a volume here. Everything else may be read-only.
COPY --from=build --chown=65532:65532 /out/var/lib/busbar /var/lib/busbar
USER 65532:65532
WORKDIR /var/lib/busbar
EXPOSE 8081 8443
ENTRYPOINT ["/usr/local/bin/busbar"]
CMD ["run"]
