# One image for every process; the command chooses which. Two targets: `forebay` (the last one, so the default) and
# `load`, which has locust as well. Needs no BuildKit.
#
# Another registry or a digest: --build-arg PYTHON_IMAGE=registry.example.com/python@sha256:...
ARG PYTHON_IMAGE=python:3.13-slim-trixie

# What changes seldom: the packages of the lock file, in an environment without pip.
FROM ${PYTHON_IMAGE} AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
RUN python3 -m venv /build/tools \
    && python3 -m venv --without-pip /opt/forebay/.venv
COPY requirements/runtime.txt /build/
# Compiled here, because a read-only root cannot keep bytecode; unchecked, because nothing changes behind it.
RUN /build/tools/bin/pip --python /opt/forebay/.venv/bin/python install --no-compile --require-hashes \
        -r /build/runtime.txt \
    && /opt/forebay/.venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/forebay/.venv/lib

# What changes often: our own code, laid out under /project as it will be under /.
FROM packages AS project
COPY requirements/build.txt /build/
RUN /build/tools/bin/pip install --require-hashes -r /build/build.txt
COPY pyproject.toml README.md LICENSE /build/forebay/
COPY services /build/forebay/services
RUN /build/tools/bin/pip wheel --no-deps --no-build-isolation --no-index -w /build/dist /build/forebay \
    && /build/tools/bin/pip --python /opt/forebay/.venv/bin/python install --no-compile --no-deps --no-index \
        --root /project /build/dist/*.whl
COPY loadtest /project/opt/forebay/loadtest
RUN /opt/forebay/.venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
        -s /project /project/opt/forebay

# What every image of ours stands on: the interpreter and nothing that installs.
FROM ${PYTHON_IMAGE} AS base
RUN rm -rf /usr/local/lib/python3*/ensurepip /usr/local/lib/python3*/site-packages/pip* /usr/local/bin/pip* \
        /usr/lib/python3*/ensurepip /usr/share/python-wheels \
    && python3 -c 'import ssl; assert ssl.create_default_context().cert_store_stats()["x509_ca"] > 50, \
"PYTHON_IMAGE has no CA certificates, so no provider could be called"'
ENV PATH=/opt/forebay/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/opt/forebay \
    PYTHONUNBUFFERED=1
WORKDIR /opt/forebay
STOPSIGNAL SIGTERM
# Whoever names no process is told what there is.
CMD ["forebay", "--help"]

FROM base AS runtime
COPY --from=packages /opt/forebay/.venv /opt/forebay/.venv
COPY --from=project /project/opt/forebay /opt/forebay
USER 10001:10001

# locust has an environment of its own: it needs nothing of ours, and we nothing of it.
FROM ${PYTHON_IMAGE} AS locust
RUN python3 -m venv /build/tools \
    && python3 -m venv --without-pip /opt/locust
COPY requirements/load.txt /build/
RUN /build/tools/bin/pip --python /opt/locust/bin/python install --disable-pip-version-check --no-cache-dir \
        --no-compile --require-hashes -r /build/load.txt \
    && /opt/locust/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/locust/lib

FROM runtime AS load
COPY --from=locust /opt/locust /opt/locust
ENV PATH=/opt/locust/bin:$PATH
LABEL org.opencontainers.image.title="forebay-load" \
      org.opencontainers.image.description="Forebay's image with locust." \
      org.opencontainers.image.licenses="Apache-2.0"

FROM runtime AS forebay
ARG REVISION=""
ARG VERSION=""
LABEL org.opencontainers.image.title="forebay" \
      org.opencontainers.image.description="Accepts slow API calls at once, digests them at the rate the providers bear." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.version="$VERSION"
