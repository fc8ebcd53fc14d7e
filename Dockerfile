# The operator's image: the release binary, certificates and time zones, and nothing that could start a shell.

FROM rust:1.95.0-bookworm AS build
WORKDIR /busbar
COPY . .
# The caches belong to the builder, not to a layer.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/busbar/target \
    cargo build --release --locked --bin busbar \
 && install -D target/release/busbar /out/usr/local/bin/busbar \
 && install -d /out/var/lib/busbar

# Has libc, certificates, time zones and the user 65532. Pin it by digest where you build for production.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/usr/local/bin/busbar /usr/local/bin/busbar
# The ledger's place: mount a volume here. Everything else may be read-only.
COPY --from=build --chown=65532:65532 /out/var/lib/busbar /var/lib/busbar
USER 65532:65532
WORKDIR /var/lib/busbar
ENTRYPOINT ["/usr/local/bin/busbar"]
CMD ["run"]
