# One image for every process of Plantroom; docker-compose.yml says which one a container runs.
FROM python:3.13-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
RUN python3 -m venv /opt/plantroom
WORKDIR /src
# Third parties first: they change seldom, and each file is checked by its hash.
COPY requirements.lock ./
RUN /opt/plantroom/bin/python -m pip install --quiet --require-hashes --requirement requirements.lock
COPY . ./
RUN /opt/plantroom/bin/python -m pip install --quiet --no-deps --no-build-isolation . \
    && /opt/plantroom/bin/python -m compileall -q /opt/plantroom/lib

FROM python:3.13-slim
# A named volume takes over owner and mode of the folder that it is mounted on.
RUN groupadd --gid 10001 plantroom \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent \
       --shell /usr/sbin/nologin plantroom \
    && for part in gateway cloud inspector operator ota opa \
       devices/hvac-001 devices/occupancy-001 devices/energy-001; \
       do mkdir -p "/state/$part"; done \
    && chown -R plantroom:plantroom /state && chmod -R go= /state
COPY --from=build /opt/plantroom /opt/plantroom
ENV PATH=/opt/plantroom/bin:$PATH PLANTROOM_STATE=/state PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /state
ENTRYPOINT ["plantroom"]
CMD ["--help"]
