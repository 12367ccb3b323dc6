# make lab      opens JupyterLab on the first lesson; installs what is missing first
# make install  installs what a learner needs into .venv
# make doctor   says what is wrong with this machine
# make clean    removes .venv and caches
# Another Python: make lab PYTHON=python3.12      Options of JupyterLab: make lab LAB="--no-browser"
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
export PIP_NO_INPUT := 1

.PHONY: lab install doctor clean
.DEFAULT_GOAL := lab

lab: install
	@$(BIN)/course lab $(LAB)

install: $(VENV)/.installed

doctor: install
	@$(BIN)/course doctor

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "There is no $(PYTHON): install Python 3.11 or newer, or name one: make PYTHON=/path/to/python."; \
	  exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) --version 2>&1), and the course needs 3.11 or newer:" \
	    "install one and name it, as in make PYTHON=python3.11."; \
	  exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); \
	  echo "$(PYTHON) cannot make a virtual environment here: see above (on Debian and Ubuntu:" \
	    "sudo apt install python3-venv)."; \
	  exit 1; }

# Installed again when one of the two files changes; else this costs nothing.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -e .
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache \
	  .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- For maintainers -------------------------------------------------------------------------------
# make test     checks the style, the types, the direction of imports, and runs every test
# make lint     the same without the tests
# make build    writes notebooks and executed solutions from solutions/NN_slug.py
# make soak     what takes longer than a test should: claims over three seeds, every lesson as it is read,
#               the grader under two hundred kills and over a thousand submissions
.PHONY: test test-install lint build soak

# Tests run side by side, each with one thread: PyTorch's threads would fight for the cores.
TEST_WORKERS ?= 2
test: export OMP_NUM_THREADS := 1
test: export COURSE_SCALE := smoke

test: lint
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadgroup

test-install: $(VENV)/.installed-test

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -e '.[test]'
	@touch $@ $(VENV)/.installed

lint: test-install
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

build: test-install
	$(BIN)/course build --execute

soak: test-install
	$(BIN)/course run
	$(BIN)/course claims --seeds 3
	$(BIN)/python benchmarks/soak.py
