# Nunchi with all it needs: a node of a Ray cluster (deploy/rayjob.yaml, deploy/rayservice.yaml), or one machine.
#
#     docker build -t nunchi:cuda .                          torch's CUDA build; it runs on CPUs too
#     docker build -t nunchi:cpu --build-arg TORCH=cpu .     some 5 GB smaller, x86-64 only
#     docker run --rm --shm-size 2g -v "$PWD/runs:/data" nunchi:cpu \
#         python -m jobs.analyze --input /data/reviews --bundle /data/bundle --output /data/analyses
#     docker run --rm --shm-size 2g --stop-timeout 60 -p 127.0.0.1:8000:8000 -e NUNCHI_TOKEN -v "$PWD/runs:/data:ro" nunchi:cpu
#
# --stop-timeout: requests under way finish, which may take --drain-seconds (30) and 20 more; Docker's own limit is 10 s.
# CHANGE: name the base by its digest, here and below, once, and again for every update of it:
#     docker buildx imagetools inspect python:3.11-slim-bookworm --format '{{.Manifest.Digest}}'
#     FROM python:3.11-slim-bookworm@sha256:...
FROM python:3.11-slim-bookworm AS build
ARG TORCH=cuda
COPY deploy/build.lock deploy/requirements.lock deploy/torch-${TORCH}.lock /locks/
# Kiwi's model comes as source: it is built with what build.lock names, and nothing else is.
RUN python -m venv /opt/nunchi \
    && /opt/nunchi/bin/pip install --no-cache-dir --require-hashes --requirement /locks/build.lock \
    && /opt/nunchi/bin/pip install --no-cache-dir --require-hashes \
       --no-build-isolation --only-binary :all: --no-binary kiwipiepy-model \
       --requirement /locks/requirements.lock --requirement "/locks/torch-${TORCH}.lock"
COPY pyproject.toml README.md LICENSE /source/
COPY ray_app /source/ray_app
COPY jobs /source/jobs
RUN /opt/nunchi/bin/pip install --no-cache-dir --no-deps --no-build-isolation --no-index /source

FROM python:3.11-slim-bookworm
# fonts-nanum: plots with Korean labels. wget: the probes that KubeRay adds. libgomp1: scikit-learn's and torch's threads.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends fonts-nanum libgomp1 wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 nunchi
COPY --from=build /opt/nunchi /opt/nunchi
# A Ray that is started here asks for a token; what the GPU runtime mounts; no usage statistics.
ENV PATH=/opt/nunchi/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RAY_AUTH_MODE=token \
    RAY_USAGE_STATS_ENABLED=0 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000
WORKDIR /home/nunchi
EXPOSE 8000
# Of the endpoint below; a batch job or a Ray node has none (--no-healthcheck; Kubernetes ignores it).
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
    CMD ["wget", "--quiet", "--output-document=/dev/null", "http://127.0.0.1:8000/health"]
# An address that others reach needs NUNCHI_TOKEN: without one it refuses to start.
CMD ["python", "-m", "jobs.serve", "--bundle", "/data/bundle", "--host", "0.0.0.0"]
