# Stages: wheels of server and client; the locked environment; an image without installer and compiler.
FROM python:3.12-slim AS wheel
WORKDIR /build
COPY requirements-dev.lock ./
# The build backend and its dependencies, with hashes; a missing package fails the build.
RUN awk '/^[a-z]/ {keep = /^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/} keep' requirements-dev.lock > backend.lock \
 && python -m pip install --no-cache-dir --require-hashes --only-binary :all: --requirement backend.lock
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
COPY client ./client
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . ./client

FROM python:3.12-slim AS environment
RUN python -m venv --without-pip /opt/aitp-cp
COPY requirements.lock ./
RUN python -m pip --python /opt/aitp-cp/bin/python install --no-cache-dir --require-hashes --only-binary :all: \
      --requirement requirements.lock
COPY --from=wheel /wheels /wheels
RUN python -m pip --python /opt/aitp-cp/bin/python install --no-cache-dir --no-deps --no-index /wheels/*.whl

FROM python:3.12-slim
RUN groupadd --gid 10001 aitp && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin aitp
COPY --from=environment /opt/aitp-cp /opt/aitp-cp
ENV PATH=/opt/aitp-cp/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 10001:10001
EXPOSE 4000
STOPSIGNAL SIGTERM
# Liveness does not query the database: a short outage must not restart every replica.
HEALTHCHECK --interval=10s --timeout=3s --start-period=40s --retries=3 \
  CMD ["python", "-m", "aitp_cp.cli.alive"]
ENTRYPOINT ["aitp-cp"]
CMD ["serve"]
