# Every target sets up its own virtual environment in .venv when it is missing.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Pyright is pinned in constraints.txt; it looks for no newer one.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.PHONY: demo test test-arviz1 test-lowest lint bench bench-tables bench-log-z docs docs-examples clean

demo: $(STAMP)
	$(BIN)/drl-density demo --out runs/demo --seed 0 --force

test: $(STAMP)
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

# The same edge in the next generation of ArviZ, through its parts, which install on Python 3.11.
test-arviz1:
	test -x .venv-arviz1/bin/python || $(PYTHON) -m venv .venv-arviz1
	.venv-arviz1/bin/python -m pip install -q -c constraints.txt torch
	grep -v -e '^matplotlib' -e '^arviz' constraints.txt > .venv-arviz1/constraints.txt
	.venv-arviz1/bin/python -m pip install -q -c .venv-arviz1/constraints.txt -r tests/requirements_arviz1.txt
	OMP_NUM_THREADS=1 PYTHONPATH=. .venv-arviz1/bin/python -m pytest -q tests/integration/test_arviz.py tests/diagnostics

# The code of the README, ArviZ, the public interface and scikit-learn's checks with the lowest versions that pyproject.toml
# allows, except that of torch. Old packages meet newer ones here, which warn about what they no longer like.
test-lowest:
	test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python tests/lowest_versions.py > .venv-lowest/constraints.txt
	.venv-lowest/bin/python -m pip install -q -c constraints.txt torch
	.venv-lowest/bin/python -m pip install -q -c .venv-lowest/constraints.txt -e '.[tables,images]' pytest hypothesis
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -q -W ignore::DeprecationWarning -W ignore::PendingDeprecationWarning \
		tests/test_readme.py tests/test_estimator.py tests/integration/test_arviz.py tests/integration/test_public_interface.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/pyright

bench: $(STAMP)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[benchmarks]'
	$(BIN)/python tests/benchmarks/sampler_overhead.py
	$(BIN)/python tests/benchmarks/eight_gaussians.py

# The comparison with other density estimators on public tables; it goes on where runs/bench-tables stands. For example
#     make bench-tables DATA=folder BENCH="--minutes 4 --splits 10 --jobs 2"
bench-tables: $(STAMP)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[benchmarks]'
	$(BIN)/python -m tests.benchmarks.tables $(if $(DATA),--data $(DATA)) $(BENCH)

# log Z of targets where it is known, beside other packages; it resumes runs/log-z. The packages that are not installed are
# said so in the table; `.venv/bin/python -m pip install dynesty nautilus-sampler blackjax morphz` adds most of them. For example
#     make bench-log-z BENCH="--seeds 5 --jobs 2"
bench-log-z: $(STAMP)
	$(BIN)/python -m tests.benchmarks.log_z --out runs/log-z --beside $(BENCH)

# The site, in runs/docs/index.html; a warning is an error.
docs: $(STAMP)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[docs]'
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs runs/docs
	@echo "the site is in runs/docs/index.html"

# Runs every example and writes its page and figure into docs/examples.
docs-examples: $(STAMP)
	$(BIN)/python docs/example_pages.py

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[test,tables]'
	touch $(STAMP)

clean:
	rm -rf .venv .venv-arviz1 .venv-lowest runs
