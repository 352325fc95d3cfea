# Everything a fresh machine needs is Python 3.10 or newer: every target sets up .venv first.
PYTHON ?= python3
BIN := .venv/bin
# The oldest stack goes with the oldest Python, where there is one.
OLDEST_PYTHON ?= $(shell python3.10 -c 'print("python3.10")' 2>/dev/null || echo $(PYTHON))
PYTEST := -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

.PHONY: install demo test test-newest test-oldest lint format clean

install: .venv/installed

.venv/installed: setup.py pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/vidssl demo --out demo

test: install
	$(BIN)/python $(PYTEST)

# The same tests on the newest release of everything that the index has today.
test-newest:
	rm -rf .venv-newest
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/pip install --quiet --upgrade pip
	.venv-newest/bin/pip install --quiet --upgrade --upgrade-strategy eager '.[dev]'
	.venv-newest/bin/pip check
	.venv-newest/bin/python $(PYTEST)

# What the oldest supported releases (tests/oldest.txt) are held to: all that reads, trains and measures.
test-oldest: .venv-oldest/installed
	.venv-oldest/bin/pip check
	.venv-oldest/bin/python $(PYTEST) $(OLDEST_TESTS)

# What readers leave in memory depends on the allocator more than on releases: the newest stack answers for it.
OLDEST_TESTS := tests/augment tests/data tests/evaluate tests/methods tests/models tests/ops tests/train \
	tests/test_contract.py --ignore tests/data/media/test_memory.py

.venv-oldest/installed: setup.py tests/oldest.txt
	rm -rf .venv-oldest
	$(OLDEST_PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet --upgrade pip
	.venv-oldest/bin/pip install --quiet --constraint tests/oldest.txt --editable '.[dev]'
	touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-newest .venv-oldest demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
