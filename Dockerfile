# The operator's image, for those who have a container engine. `cargo image` makes one of the same
# shape without an engine, and is what the tests install.
#
# Both bases are pinned: the tag is for people, the digest decides. Move them together, so that the
# program is linked with the glibc that it finds.
FROM docker.io/library/rust:1.95-bookworm@sha256:6258907abe69656e41cd992e0b705cdcfabcbbe3db374f92ed2d47121282d4a1 AS build
WORKDIR /build
COPY . .
# The compiler that the image has, and not its tools for people.
ENV RUSTUP_TOOLCHAIN=1.95.0
RUN cargo build --release --locked --package message-contact-operator --bin message-contact-operator

FROM gcr.io/distroless/cc-debian12:nonroot@sha256:9dac0a79194e45a7da0158a9c6da57b217585af0786db3845d1f0ec1a0dd182f
LABEL org.opencontainers.image.title="message-contact-operator" \
      org.opencontainers.image.description="Keeps the message contacts of an Alibaba Cloud resource directory in git" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /build/target/release/message-contact-operator /message-contact-operator
USER 65532:65532
ENTRYPOINT ["/message-contact-operator"]
CMD ["run"]
