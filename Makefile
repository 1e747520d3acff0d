# make quickstart: the whole of Nunchi on the shipped sample, offline
# make test:       lint, types, import contract, all tests, a floor under the engine's speed
# make setup:      .venv with the page, from the pinned constraints (PIP_ARGS is passed on, e.g. for torch's CPU index)
# make wheel:      dist/: Nunchi as one file, which cluster.yaml puts on every node
# make pythons:    set-up and fast tests on Python 3.12 and 3.13
# make image-test: the image built and run without a Docker engine, as root on Debian; not a part of make test
# make lock:       deploy/*.lock, what clusters and images install, from pyproject.toml and constraints.txt
PYTHON ?= python3
PIP_ARGS ?=
PYTHONS ?= python3.12 python3.13
RUN := .venv/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Of 26,000 files few are ever imported, and Python compiles those when they are.
export PIP_NO_COMPILE = 1

.PHONY: setup quickstart test fast-tests ray-tests lint wheel image-test pythons lock browser prometheus axe clean

setup: .venv/.setup

quickstart: .venv/.setup
	$(RUN) -m jobs.quickstart

# One after the other: Ray's workers give way to whatever runs beside them, and time out.
test: .venv/.dev browser prometheus fast-tests ray-tests
	$(RUN) -m jobs.benchmark --shape e5-small --variants ours --reviews 8 --rounds 3 --floor 0.3

fast-tests: lint
	$(RUN) -m pytest -m "not ray" --numprocesses 2 --dist loadfile

ray-tests: .venv/.dev
	$(RUN) -m pytest -m ray

lint: .venv/.dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/deptry --no-ansi ray_app jobs

wheel: .venv/.setup
	rm -rf build dist
	$(RUN) -m pip wheel --quiet --no-deps --wheel-dir dist .

# WHEELS names a folder with torch's CPU wheel, where its index cannot be reached.
WHEELS ?=
image-test: .venv/.dev
	command -v buildah >/dev/null && command -v debootstrap >/dev/null || \
		apt-get install --yes --quiet --no-install-recommends buildah debootstrap
	for step in base build check clean; do $(RUN) -m tests.operations.image $$step --wheels "$(WHEELS)" || exit 1; done

lock: .venv/.dev
	$(RUN) deploy/lock.py

# What the page's test drives; nothing is installed where a Chromium is.
browser:
	@command -v chromedriver >/dev/null || ! command -v apt-get >/dev/null || [ "$$(id -u)" != 0 ] || \
		{ apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver fonts-nanum; } >/dev/null

# What scrapes the endpoint and a job in a test, and checks the alerts; nothing is installed where it is.
prometheus:
	@command -v promtool >/dev/null || ! command -v apt-get >/dev/null || [ "$$(id -u)" != 0 ] || \
		{ apt-get update -qq && apt-get install -y -qq --no-install-recommends prometheus; } >/dev/null

# The whole set-up and the fast tests on the other Pythons, each in an environment of its own below build/ (torch's CUDA
# build: 7 GB each, with links to one copy of what both have). PYTHONS="/path/to/python3.13" names them.
pythons: .venv/.dev
	@for python in $(PYTHONS); do \
		version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])') || \
			{ echo "error: no $$python here; name yours: make pythons PYTHONS=/path/to/it"; exit 1; }; \
		own=build/python$$version; \
		$$python -m venv $$own && UV_CACHE_DIR=build/uv .venv/bin/uv pip install --quiet --python $$own/bin/python \
			--constraint constraints.txt --editable '.[page,dev]' && \
		$$own/bin/python -m pytest -m "not ray" --numprocesses 2 --dist loadfile || exit 1; \
	done

# axe-core, with which a test looks for faults of accessibility; it is skipped without.
axe:
	mkdir -p build/axe
	cd build/axe && npm pack axe-core@4 --silent >/dev/null && tar xzf axe-core-*.tgz package/axe.min.js

clean:
	rm -rf .venv build dist runs

.venv/.setup: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "error: Python 3.11 to 3.13 is needed; name one with make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --constraint constraints.txt $(PIP_ARGS) torch
	$(RUN) -m pip install --quiet --constraint constraints.txt $(PIP_ARGS) --editable '.[page]'
	@touch $@

.venv/.dev: .venv/.setup
	$(RUN) -m pip install --quiet --constraint constraints.txt $(PIP_ARGS) --editable '.[dev]'
	@touch $@
