# The few commands anybody needs. Each does its own set-up in .venv, where an empty file remembers
# every step that is done.

VENV := .venv
BIN := $(VENV)/bin
RUST := Cargo.toml Cargo.lock $(shell find kernels lsh pybind -name '*.rs' -o -name Cargo.toml)

.PHONY: build demo test lint bench-join bench-spark bench-spark-cluster
.SECONDARY:

build: $(VENV)/built

# The main job on the docstrings of this Python and its packages.
demo: $(VENV)/built $(VENV)/with-demo
	$(BIN)/python benches/docstrings.py

# The whole suite on the best instruction set of this machine, on none, and on plain AVX-512 where
# there is better than that.
test: $(VENV)/built
	@set -e; for isa in best scalar $$($(BIN)/python -c "$(PLAIN_AVX512)"); do \
	    $(MAKE) --no-print-directory test-$$isa; \
	done

PLAIN_AVX512 := import lshjoin; print('avx512' * ('avx512' in lshjoin.cpu_features()[:-1]))

test-%: export LSHJOIN_ISA = $(filter-out best,$*)
test-%: $(VENV)/built $(VENV)/with-test
	@echo "== instruction set: $* =="
	cargo test --workspace --exclude lshjoin-python
	$(BIN)/python -m pytest -rs tests

lint: $(VENV)/with-lint
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# k-NN joins by FAISS, hnswlib and here; some of them by, say, CASES='growth identical'.
bench-join: $(VENV)/built $(VENV)/with-bench
	$(BIN)/python benches/knn_join.py $(if $(CASES),--cases $(CASES))

# The main job in Spark and here, in one run; needs Java 17.
bench-spark: $(VENV)/built $(VENV)/with-test
	$(BIN)/python benches/spark_join.py

# Spark and lshjoin.spark on a cluster of two processes; some of it by, say, CASES='join nearest'.
bench-spark-cluster: $(VENV)/built $(VENV)/with-test
	$(BIN)/python benches/spark_cluster.py $(if $(CASES),--cases $(CASES))

$(VENV)/created:
	python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'  # the first that knows groups
	touch $@

# A group of requirements in pyproject.toml.
$(VENV)/with-%: pyproject.toml | $(VENV)/created
	$(BIN)/python -m pip install --quiet --group $*
	touch $@

$(VENV)/built: $(RUST) pyproject.toml | $(VENV)/created $(VENV)/with-build
	$(BIN)/maturin develop --release
	touch $@
