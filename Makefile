# make demo   everything set up, then the service with a page at http://127.0.0.1:8080/
# make test   everything set up, then all tests
# make help   the rest

PYTHON ?= python3
PORT ?= 8080
ACCOUNTING ?=

.DEFAULT_GOAL := help
.PHONY: help demo demo-slurm demo-replicas test test-slurm24 test-slurm26 test-paraview check test-pbs cluster cluster-down bench bench-resilience setup-demo setup-test setup-python lock clean

help: ## This list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20

setup-demo:
	@$(PYTHON) scripts/bootstrap.py demo

setup-test:
	@$(PYTHON) scripts/bootstrap.py test

setup-python:
	@$(PYTHON) scripts/bootstrap.py python

demo: setup-demo ## A 3D session in the browser through the built-in batch runner; PORT=8080
	@exec .venv/bin/python scripts/demo.py --port $(PORT)

demo-slurm: setup-test cluster ## The same through a real Slurm cluster on this machine (root)
	@exec .venv/bin/python scripts/demo.py --slurm --port $(PORT)

demo-replicas: setup-test cluster ## Two services on one PostgreSQL, with real Slurm (root)
	@exec .venv/bin/python scripts/demo_replicas.py --port $(PORT)

cluster: ## A real Slurm cluster in network namespaces of this machine (root); ACCOUNTING=1
	@$(PYTHON) -m testbed up $(if $(ACCOUNTING),--accounting)

cluster-down: ## End that cluster and all it left
	@$(PYTHON) -m testbed down

check: setup-test ## Lint, types and unit tests: under two minutes
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/python -m scripts.imports --check
	.venv/bin/python -m scripts.settings --check
	.venv/bin/pytest -q -n 4 -m "not cluster and not browser and not servers and not paraviews"

test: check ## Everything: check, then real Slurm, Grid Engine, PostgreSQL, Apache, nginx, HAProxy, Traefik, ParaView, Chromium
	@.venv/bin/python -m scripts.software
	.venv/bin/python -m tests.isolated "cluster or browser or servers"

test-pbs: setup-python ## The PBS suite on a real PBS: HPCBRIDGE_TEST_PBS=local or ssh://user@host[:port]
	.venv/bin/python -m tests.pbs
	.venv/bin/pytest -q tests/pbs/test_suite.py tests/conformance/test_pbs.py

SLURM_TESTS = $(patsubst %,tests/cluster/test_%.py,slurmrest conformance conformance_rest choice accounting)

test-slurm24: setup-test ## Both Slurm adapters and accounting on the Slurm 24.11 of Debian 13, put into a directory (root)
	@.venv/bin/python -m testbed.trixie .venv/bin/pytest -q $(SLURM_TESTS) -o timeout=300

test-slurm26: setup-test ## The same and accounting on the Slurm 26.05 of Debian 14 (root)
	@.venv/bin/python -m testbed.trixie --release forky .venv/bin/pytest -q $(SLURM_TESTS) -o timeout=300

test-paraview: setup-test ## ParaView 5.13 of Debian 13 and 6 of the next one with trame, kept in directories (root)
	@.venv/bin/python -m testbed.paraviews .venv/bin/pytest -q tests/paraviews

bench: setup-test ## The tables of docs/benchmarks.md
	@.venv/bin/python -m benchmarks

bench-resilience: setup-test ## What crashes and outages cost: about half an hour (root)
	@.venv/bin/python -m benchmarks --resilience

lock: ## Renew constraints.txt from what is installed
	@.venv/bin/pip freeze --exclude-editable | grep -v '^#' > constraints.txt

clean: ## Remove what the targets made, the cluster last
	@$(PYTHON) -m testbed down
	@$(PYTHON) -m testbed.paraviews --remove
	rm -rf .venv .demo .packages .mypy_cache .ruff_cache .pytest_cache
