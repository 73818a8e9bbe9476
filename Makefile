PYTHON ?= python3
BIN = .venv/bin
PROPERTIES = mutations or checker or parser or printer or formatter or index or python or values or lexer or positions

SGLANG = .venv-sglang/bin/python -m pip install --quiet --disable-pip-version-check
STUB = tests/hwruntime/sglang/stub

.PHONY: demo test test-sglang explore lint docs performance clean

# Two workers share six small problems, on the embedded model.
demo: .venv/installed
	$(BIN)/hw run programs/sums.hw

# The whole suite: tests, ruff, mypy and the import rules (they are tests, too).
test: .venv/installed-dev
	$(BIN)/python -m pytest -n auto

# The tests of models on SGLang, in an environment of their own, on the CPU: with a stub in the place of its kernels.
test-sglang:
	@if $(MAKE) --no-print-directory .venv-sglang/installed > .venv-sglang.log 2>&1; then \
		PYTHONPATH=$(STUB) .venv-sglang/bin/python -m pytest -vv -rs tests/hwruntime/sglang $(TESTS); \
	else \
		echo "skipped: the environment for SGLang cannot be made (.venv-sglang.log):"; \
		grep -i -m1 error .venv-sglang.log || tail -1 .venv-sglang.log; \
	fi

# The tests of properties, with examples that were not tried before, five times as many.
explore: .venv/installed-dev
	$(BIN)/python -m pytest -n auto --hypothesis-profile explore tests/hwlang -k "$(PROPERTIES)"

# The documentation, in site/; a warning is an error. The tests build it, too.
docs: .venv/installed-dev
	$(BIN)/mkdocs build --strict

# Times passes on this machine and writes the table into docs/performance.md; BENCH: options of `hw bench`.
performance: .venv/installed-dev
	$(BIN)/python benchmarks/performance.py $(BENCH)

lint: .venv/installed-dev
	$(BIN)/ruff format hwlang runtime tests training docs
	$(BIN)/ruff check --fix hwlang runtime tests training docs
	$(BIN)/mypy

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		flashinfer-python==0.7.2.post1 sglang==0.5.2
	touch $@

.venv-sglang/installed: tests/hwruntime/sglang/requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv-sglang
	$(SGLANG) --requirement $<
	$(SGLANG) --no-deps compressed-tensors==0.18.0 sglang==0.5.23 torchvision==0.28.0
	$(SGLANG) --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf .venv .venv-sglang .venv-sglang.log build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
