# PgBouncer, from Debian's own package.
ARG DEBIAN_IMAGE=debian:bookworm-slim
FROM ${DEBIAN_IMAGE}
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends pgbouncer \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10002 pool \
    && useradd --uid 10002 --gid pool --no-create-home --shell /usr/sbin/nologin pool
COPY docker/pgbouncer.sh /usr/local/bin/pool
USER pool
EXPOSE 6432
CMD ["/usr/local/bin/pool"]
