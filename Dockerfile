# One image for every role: web, worker, beat, guardian, Flower, paper exchange. The command says which.
# Behind a mirror: --build-arg PYTHON_IMAGE=… and --build-arg PIP_INDEX_URL=…
ARG PYTHON_IMAGE=python:3.12-slim

FROM ${PYTHON_IMAGE} AS packages
ARG PIP_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.lock /tmp/requirements.lock
# Wheels only, each checked against its sha256: nothing is compiled and nothing unpinned gets in.
RUN python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --require-hashes --only-binary :all: -r /tmp/requirements.lock \
    && /opt/venv/bin/pip uninstall --yes pip

FROM ${PYTHON_IMAGE}
RUN groupadd --gid 10001 algo \
    && useradd --uid 10001 --gid algo --no-create-home --shell /usr/sbin/nologin algo \
    && install -d -o algo -g algo -m 0700 /var/lib/algo /run/algo
COPY --from=packages /opt/venv /opt/venv
WORKDIR /app
COPY manage.py ./
COPY launcher launcher
COPY docker docker
COPY providers providers
COPY algo algo
COPY algo_trade algo_trade
# Bytecode now: the file system may be read-only later.
RUN /opt/venv/bin/python -m compileall -q .
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    DJANGO_SETTINGS_MODULE=algo_trade.settings \
    NUMBA_CACHE_DIR=/tmp/numba \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER algo
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=4 CMD ["python", "docker/healthy.py", "web"]
CMD ["gunicorn", "algo_trade.wsgi", "--config", "algo_trade/serving.py", "--bind", "0.0.0.0:8000", \
     "--worker-tmp-dir", "/dev/shm", "--no-control-socket"]
