# The operator's image: the release binary, CA certificates and time zones; no shell.

FROM rust:1.95.0-bookworm AS build
WORKDIR /busbar
COPY . .
# Build caches are mounted, so that they are not part of a layer.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/busbar/target \
    cargo build --release --locked --bin busbar \
 && install -D target/release/busbar /out/usr/local/bin/busbar \
 && install -d /out/var/lib/busbar

# Contains libc, CA certificates, time zones and the user 65532. Pin it by digest for production builds.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/usr/local/bin/busbar /usr/local/bin/busbar
# The ledger's directory: mount a volume here. Everything else may be read-only.
COPY --from=build --chown=65532:65532 /out/var/lib/busbar /var/lib/busbar
USER 65532:65532
WORKDIR /var/lib/busbar
ENTRYPOINT ["/usr/local/bin/busbar"]
CMD ["run"]
