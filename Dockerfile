# The build: the compiler version is `rust-version` of Cargo.toml.
FROM rust:1.95-bookworm AS build
WORKDIR /build

# The dependencies alone first, with an empty program: this layer is kept until they change.
COPY Cargo.toml Cargo.lock ./
# Cargo.toml names a benchmark, and cargo wants to see its file.
COPY benches benches
RUN mkdir src && touch src/lib.rs && echo 'fn main() {}' > src/main.rs \
 && cargo build --release --locked && rm -r src

COPY config config
COPY src src
# cargo goes by file times, and the empty program is younger than the copied files.
RUN touch src/lib.rs src/main.rs && cargo build --release --locked
# Handed over with its owner: an empty named volume mounted there takes this owner on.
RUN mkdir /data

FROM debian:bookworm-slim
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build --chown=10001:10001 /data /var/lib/pgsyncd
COPY --from=build /build/target/release/pgsyncd /usr/local/bin/pgsyncd
ENV CHECKPOINT_PATH=/var/lib/pgsyncd \
    PGSYNCD_HTTP_ADDR=0.0.0.0:8080
USER 10001:10001
WORKDIR /var/lib/pgsyncd
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["pgsyncd", "healthcheck"]
ENTRYPOINT ["pgsyncd"]
