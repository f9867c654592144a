# Every target builds what it needs from nothing but Python and pip. ARGS goes to the program:
#   make test ARGS="-k refresh"      make bench ARGS="--rounds 2"      make demo ARGS=--once

VENV := .venv
OLDEST := .venv-oldest
OLDEST_MITMPROXY := 12.3.0
ARGS ?=

# The first of these that runs and is new enough. `make PYTHON=/path/to/python3` overrides it.
PYTHON ?= $(shell for python in python3.13 python3 python3.12; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1 && echo $$python && break; done)

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo run test test-oldest soak check audit format bench simulate clean
.DELETE_ON_ERROR:

demo: $(VENV)/.ready
	@$(VENV)/bin/python -m authpool.demo $(ARGS)

run: $(VENV)/.ready
	@$(VENV)/bin/authpool init
	@$(VENV)/bin/authpool mitmweb $(ARGS)

# Two tests at a time for each core, up to four: much of a test is waiting. ARGS="-n 0" runs them one by one.
WORKERS = -n $(shell $(VENV)/bin/python -c 'import os; print(min(4, 2 * (os.cpu_count() or 1)))')

test: $(VENV)/.ready
	$(VENV)/bin/python -m pytest $(WORKERS) $(ARGS)

# What touches mitmproxy, on the oldest release that is supported; the chaos is about refreshes.
test-oldest: $(OLDEST)/.ready
	$(OLDEST)/bin/python -m pytest $(WORKERS) -m mitmproxy --ignore tests/test_chaos.py $(ARGS)

# The model of the world, for as many worlds as SOAK says.
SOAK ?= 2000
soak: $(VENV)/.ready
	HYPOTHESIS_PROFILE=soak WORLD_SOAK_EXAMPLES=$(SOAK) $(VENV)/bin/python -m pytest -s --timeout 0 -o faulthandler_timeout=0 tests/test_world.py $(ARGS)

check: $(VENV)/.ready
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	-@$(MAKE) --no-print-directory audit

# Known holes in what is installed, where the package index lets us ask. `make check` tells of them, and goes on.
audit: $(VENV)/.ready
	@$(VENV)/bin/pip-audit --version >/dev/null 2>&1 \
		|| $(VENV)/bin/python -m pip install --quiet --retries 0 --timeout 5 pip-audit >/dev/null 2>&1 \
		|| { echo "make: dependencies not audited: pip-audit can't be installed from here"; exit 0; }; \
	said=$$($(VENV)/bin/pip-audit --skip-editable --progress-spinner off --timeout 15 2>&1); status=$$?; \
	case "$$said" in \
		*"could not be audited"*) echo "make: dependencies not audited: the index knows nothing of them";; \
		*"known vulnerabilit"*) echo "$$said"; exit $$status;; \
		*) test $$status = 0 || echo "make: dependencies not audited: pip-audit got no answer";; \
	esac

format: $(VENV)/.ready
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

bench: $(VENV)/.ready
	@$(VENV)/bin/python tests/bench/choice.py
	@$(VENV)/bin/python tests/bench/bench.py $(ARGS)

# Every rotation on pools of random accounts, in virtual time; ARGS=--write puts the figures into the docs.
simulate: $(VENV)/.ready
	@PYTHONPATH=tests $(VENV)/bin/python tests/bench/simulate.py $(ARGS)

clean:
	rm -rf $(VENV) $(OLDEST) .venv-node build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find addon plugins tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.ready: pyproject.toml
	$(call create_venv,$(VENV))
	$(VENV)/bin/python -m pip install --quiet --editable '.[dev,demo]'
	@touch $@

$(OLDEST)/.ready: pyproject.toml Makefile
	$(call create_venv,$(OLDEST))
	$(OLDEST)/bin/python -m pip install --quiet --editable '.[dev,demo]' 'mitmproxy==$(OLDEST_MITMPROXY)'
	@touch $@

# $(1): the folder. Kept when it works, made anew when its Python is gone.
define create_venv
	@test -n "$(PYTHON)" || { echo "make: Python 3.12 or newer is needed (looked for python3.13, python3," \
		"python3.12): install it, or name it with make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		version=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		echo "make: $(PYTHON) has no venv or ensurepip module: on Debian and Ubuntu," \
		"apt-get install python$$version-venv" >&2; exit 1; }
	@$(1)/bin/python -m pip --version >/dev/null 2>&1 || { \
		echo "make: building $(1) with $(PYTHON), a minute or so"; $(PYTHON) -m venv --clear $(1); }
endef
