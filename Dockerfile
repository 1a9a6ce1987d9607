# One image for both of a pod's containers: `capture install` (root with NET_ADMIN) and `resolver run` (uid 1337, no capability).
#
#     docker build --build-arg VERSION=0.1.0 --build-arg REVISION="$(git rev-parse HEAD)" --tag meshdns:0.1.0 .
#
# Where packages come by an index of one's own, pip's settings are a secret of the build, which leaves no trace in it:
# --secret id=pip.conf,src=FILE, and --secret id=ca.crt,src=FILE where that says `cert = /run/secrets/ca.crt`.

# A Debian with Python 3.11 or newer; both stages need the same one, for the virtual environment links to its Python.
ARG BASE=debian:trixie-slim

FROM ${BASE} AS build
ARG DEBIAN_FRONTEND=noninteractive
RUN apt-get -qq update \
    && apt-get -qq install --yes --no-install-recommends ca-certificates python3 python3-venv \
    && python3 -m venv /build/venv \
    && python3 -m venv --without-pip /opt/meshdns
WORKDIR /build/tree
COPY requirements.lock requirements-dev.lock ./
# setuptools, which builds the wheel, is locked with the development packages. --no-deps: the locks name every package, and
# nothing published since can be picked instead.
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.crt export PIP_CONFIG_FILE=/run/secrets/pip.conf \
    && sed -n '/^setuptools==/,/[^\\]$/p' requirements-dev.lock >../setuptools.lock \
    && /build/venv/bin/pip install --no-cache-dir --no-deps --require-hashes --requirement ../setuptools.lock \
    && /build/venv/bin/pip --python /opt/meshdns/bin/python install \
         --no-cache-dir --no-compile --no-deps --require-hashes --requirement requirements.lock
COPY . .
ARG REVISION=
# Compiled here and never checked against the sources again: a layer's time stamps are not to be relied on.
RUN MESHDNS_REVISION=${REVISION} /build/venv/bin/pip wheel --no-cache-dir --no-index --no-deps --no-build-isolation --wheel-dir ../wheels . \
    && /build/venv/bin/pip --python /opt/meshdns/bin/python install --no-cache-dir --no-compile --no-index --no-deps ../wheels/*.whl \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/meshdns/lib

FROM ${BASE}
ARG DEBIAN_FRONTEND=noninteractive
RUN apt-get -qq update \
    && apt-get -qq install --yes --no-install-recommends python3 nftables iptables \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/cache/debconf /var/log/*.log /var/log/apt \
    && ln -s /opt/meshdns/bin/meshdns /usr/local/bin/meshdns
COPY --from=build /opt/meshdns /opt/meshdns

ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.title="meshdns" \
      org.opencontainers.image.description="Service-mesh names that resolve and connect where they are looked up" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
USER 1337:1337
ENTRYPOINT ["meshdns"]
