# The few commands anybody needs. Each does its own set-up in .venv, where an empty file remembers
# every step that is done.

VENV := .venv
BIN := $(VENV)/bin
BENCH_VENV := .venv-bench
BENCH := $(BENCH_VENV)/bin/python
PLUGS_VENV := .venv-plugs
PLUGS := $(PLUGS_VENV)/bin/python
RUST := Cargo.toml Cargo.lock $(shell find kernels lsh pybind -name '*.rs' -o -name Cargo.toml)

.PHONY: build packages demo docs examples wheels test test-python test-spark test-spark-versions \
    test-others test-plugs test-neon test-neon-joins test-memory test-miri fuzz fuzz-python lint \
    lint-rust lint-python deny msrv bench bench-binary bench-quick bench-report bench-index \
    bench-join bench-kernels bench-growth bench-out-of-core bench-planner bench-radius bench-sisap \
    bench-spark bench-spark-cluster bench-umap crates reliability
.SECONDARY:

build: $(VENV)/built

# The main job on the docstrings of this Python and its packages.
demo: $(VENV)/built $(VENV)/with-demo
	$(BIN)/python -m benches.demo

# What examples/ has, at full size: some minutes, most of them UMAP's. The last one needs Java 17.
EXAMPLES := near_duplicates entity_resolution hard_negatives umap_100k spark_job

examples: $(VENV)/built $(VENV)/with-examples
	@for example in $(EXAMPLES); do \
	    echo "== $$example =="; $(BIN)/python examples/$$example.py || exit; done

# The site of docs/ into target/site; a link that leads nowhere ends it. Docstrings are read, not run:
# nothing has to be built.
docs: export NO_MKDOCS_2_WARNING = 1
docs: $(VENV)/with-docs
	$(BIN)/mkdocs build --strict

# The wheel for this processor and any Linux from glibc 2.28 on, which is tried in a clean environment of
# each CPython that this machine has.
wheels: export PATH := $(CURDIR)/$(BIN):$(PATH)  # maturin asks the first Python there for zig
wheels: $(VENV)/with-wheels
	rm -rf target/wheels
	$(BIN)/maturin build --release --locked --zig --compatibility manylinux_2_28 --out target/wheels
	$(BIN)/python tests/wheels.py target/wheels

# What crates.io would get, in the order in which it would get it; nothing is sent.
crates:
	cargo publish --dry-run --locked $(CRATES)

# The whole suite on the best instruction set of this machine; what computes, on none as well. (The
# kernels' tests, and those that pin what joins give, go through all that the machine has.) Three at a
# time, since Spark's tests often wait: Python's, Spark's and all others in turn. (Cargo and rustdoc have
# no use for make's jobs.)
test: $(VENV)/built $(VENV)/with-test
	@$(MAKE) --no-print-directory --jobs 3 --output-sync test-python test-spark test-others

test-python: $(VENV)/built $(VENV)/with-test
	@echo "== Python, instruction set: best =="
	$(BIN)/python -m pytest -rs --durations 20 tests/python

test-spark: $(VENV)/built $(VENV)/with-test
	@echo "== Spark =="
	$(BIN)/python -m pytest -rs --durations 20 tests/spark

# Spark's tests on the oldest releases that are promised, each in an environment of its own; not in CI.
test-spark-versions: test-spark-3.5 test-spark-4.0

test-spark-%: export PYTHONPATH = $(CURDIR)/pybind/python
test-spark-%: $(VENV)/built .venv-spark-%/created
	@echo "== Spark $* =="
	.venv-spark-$*/bin/python -m pytest -rs tests/spark

.venv-spark-%/created: pyproject.toml
	python3 -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'  # the first that knows groups
	$(@D)/bin/python -m pip install --quiet --group spark-versions 'pyspark[connect]==$*.*'
	touch $@

test-others: $(VENV)/built $(VENV)/with-test
	@echo "== Rust, instruction set: best =="
	MAKEFLAGS= cargo test $(CRATES) --lib --tests  # not the examples: clippy checks that they compile
	MAKEFLAGS= cargo test $(CRATES) --doc
	@$(MAKE) --no-print-directory rust-scalar python-scalar

CRATES := --package lshjoin-kernels --package lshjoin

# What computes most, whose answers might depend on the instruction set. (The kernels' own tests and what
# fuzzing found go through all that the machine has.)
COMPUTED := index joins magnitudes plans

# Skipped is what goes through all instruction sets, or takes the one without any, by itself; and joins of
# narrow and of equal rows, of very many pairs, and of an index cut into chunks of many sizes, which take
# long and whose kernels have tests of their own.
rust-%: export LSHJOIN_ISA = $*
rust-%:
	@echo "== Rust, instruction set: $* =="
	MAKEFLAGS= cargo test --package lshjoin --lib --test joins -- --skip fuzz_regressions \
	    --skip everywhere --skip every_isa --skip join::exact --skip axes_filter::tests::the_pairs \
	    --skip narrow:: --skip vectors::duplicates --skip equal_rows_stream --skip batches_hold \
	    --skip items_kept_apart

python-%: export LSHJOIN_ISA = $*
python-%: $(VENV)/built $(VENV)/with-test
	@echo "== Python, instruction set: $* =="
	$(BIN)/python -m pytest -rs --durations 20 $(COMPUTED:%=tests/python/test_%.py)

# What takes our neighbours, UMAP and scanpy for instance, beside what it makes of its own; and those
# examples of docs/ that need it. A gigabyte of packages.
test-plugs: $(PLUGS_VENV)/built $(PLUGS_VENV)/with-plugs
	$(PLUGS) -m pytest -rs --durations 20 tests/plugs tests/python/test_docs.py

# The tests of the kernels on arm64, emulated: on a processor with dot products, on one without, and on
# one with products of matrices as well. And, on the first, the pinned digests of joins, which take as
# long again: not in CI, as only kernels know of instruction sets.
# Debian's Rust, which has an arm64 standard library; it brings libc6:arm64, so no `-L` to the cross
# libc for QEMU: its loader with that libc hangs at the first thread.
NEON_DEBS := rustc-web libstd-rust-web-dev:arm64 gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user

test-neon test-neon-joins: export RUSTC = /usr/bin/rustc
test-neon test-neon-joins: export CARGO_TARGET_DIR = target/neon
test-neon test-neon-joins: export CARGO_BUILD_TARGET = aarch64-unknown-linux-gnu
test-neon test-neon-joins: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER = aarch64-linux-gnu-gcc
test-neon test-neon-joins: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER = qemu-aarch64
test-neon:
	dpkg --status $(NEON_DEBS) >/dev/null 2>&1 || { dpkg --add-architecture arm64 && apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(NEON_DEBS); }
	LSHJOIN_ISA=neondot QEMU_CPU=neoverse-n1 $(NEON_KERNELS)
	LSHJOIN_ISA=neon QEMU_CPU=cortex-a57 $(NEON_KERNELS)
	LSHJOIN_ISA=neoni8mm QEMU_CPU=max $(NEON_KERNELS)

test-neon-joins: test-neon
	LSHJOIN_ISA=neondot QEMU_CPU=neoverse-n1 cargo test --test joins -p lshjoin -- digest::

NEON_KERNELS := cargo test --lib --tests -p lshjoin-kernels

# The kernels under AddressSanitizer, whose runtime the stable toolchain has, if not by a stable name.
# What it can't see, the assembly of AMX, runs before fences like all else in tests/fenced.rs.
test-memory: export RUSTC_BOOTSTRAP = 1
test-memory: export RUSTFLAGS = -Zsanitizer=address
test-memory:
	cargo test --lib --tests -p lshjoin-kernels \
	    --target $(shell rustc -vV | sed -n 's/^host: //p') --target-dir target/memory

# The portable kernels in Miri, which sees all undefined behaviour: the smallest of tests, since it is
# a thousand times as slow. Needs `rustup toolchain install nightly --component miri`. It has no map
# of files, and of rayon's memory it understands no more than with trees.
test-miri: export MIRIFLAGS = -Zmiri-disable-isolation -Zmiri-ignore-leaks -Zmiri-tree-borrows \
    -Zmiri-permissive-provenance
test-miri: export PROPTEST_CASES = 4
test-miri:
	$(MIRI) --doc -- --skip map
	$(MIRI) --lib -- key:: floor:: codes::
	$(MIRI) --test hash -- ids_may_use

MIRI := cargo +nightly miri test -p lshjoin-kernels --target-dir target/miri

# Odd arrays, frames, parameters and files by the thousand, and how many of each there were.
fuzz-python: export HYPOTHESIS_PROFILE = fuzz
fuzz-python: $(VENV)/built $(VENV)/with-test
	$(BIN)/python -m pytest --capture no tests/python/test_properties.py

# Changed indexes, plans and models, odd arrays and kills by the thousand: docs/reliability.md.
reliability: $(VENV)/built $(VENV)/with-test
	$(BIN)/python -m benches.reliability.hostile
	$(BIN)/python -m benches.reliability.arrays
	$(BIN)/python -m benches.reliability.kills

# Each target of fuzz/ for SECONDS under AddressSanitizer, and the properties of the Python API at
# length: two at a time. What was found stays in fuzz/artifacts, what was of interest on the way in
# fuzz/corpus, to go on from.
SECONDS := 60
FUZZ := $(patsubst fuzz/fuzz_targets/%.rs,fuzz-%,$(wildcard fuzz/fuzz_targets/*.rs))
CARGO_FUZZ := RUSTC_BOOTSTRAP=1 cargo fuzz

fuzz:
	cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz
	$(CARGO_FUZZ) build
	@$(MAKE) --no-print-directory --jobs 2 --output-sync fuzz-python $(FUZZ)

# Saved indexes are thousands of small files a second: in memory, if there is a place.
fuzz-%: export TMPDIR = $(or $(wildcard /dev/shm),/tmp)
fuzz-%:
	mkdir -p fuzz/corpus/$*
	$(CARGO_FUZZ) run $* fuzz/corpus/$* fuzz/regressions/$* -- \
	    -max_total_time=$(SECONDS) -timeout=60 -len_control=0 -max_len=1024 -rss_limit_mb=4096 \
	    -print_final_stats=1 -verbosity=0

lint: lint-rust lint-python

# `cargo arc` refuses circles of imports between modules, and imports against the layers of
# arc-rules.toml; that it is there already costs nothing.
lint-rust:
	cargo fmt --all --check
	CARGO_PROFILE_DEV_DEBUG=false cargo install --quiet --debug --locked cargo-arc@0.6.2
	cargo arc check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --quiet --workspace --no-deps

lint-python: $(VENV)/with-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	PYTHONPATH=pybind/python $(BIN)/lint-imports --no-cache

# Licences, duplicates and sources of dependencies; and advisories, where their database is reached.
ADVISORIES := https://github.com/rustsec/advisory-db

deny:
	cargo deny --version >/dev/null 2>&1 || cargo install --locked cargo-deny
	cargo deny check bans licenses sources
	@if git ls-remote --exit-code $(ADVISORIES) HEAD >/dev/null 2>&1; then cargo deny check advisories; \
	    else echo "advisories are left out: $(ADVISORIES) is not reached from here"; fi

# The oldest Rust that is promised.
MSRV := $(shell sed -n 's/^rust-version = "\(.*\)".*/\1/p' Cargo.toml)

msrv:
	rustup toolchain install $(MSRV) --profile minimal --no-self-update
	cargo +$(MSRV) check --locked --workspace --all-targets --target-dir target/msrv

# lshjoin beside similar systems, each from its own package: tables and plots in bench-results/, and
# the figures of README and docs/. NAME=... keeps the results under another name; DATA='FILE ...'
# joins rows of your own, K=... neighbours of each.
bench: $(BENCH_VENV)/with-peers $(BENCH_VENV)/with-compiled-peers
	$(BENCH) -m benches.comparison $(if $(NAME),--name $(NAME)) $(if $(DATA),--data $(DATA)) $(if $(K),--k $(K))
	$(if $(DATA),,$(BENCH) -m benches.comparison.spark_join $(if $(NAME),--name $(NAME)_spark_join))
	$(if $(DATA),,$(BENCH) -m benches.comparison.minhash_join $(if $(NAME),--name $(NAME)_minhash_join))
	$(BENCH) -m benches.report $(or $(NAME),$(if $(DATA),data,bench))

bench-quick: $(BENCH_VENV)/with-peers
	$(BENCH) -m benches.comparison --quick
	$(BENCH) -m benches.comparison.spark_join --rows 2000 --name quick_spark_join
	$(BENCH) -m benches.report quick

# Tables, plots and figures once more from what was measured. SECOND=... compares two runs.
bench-report: $(BENCH_VENV)/with-bench
	$(BENCH) -m benches.report $(or $(NAME),bench) $(if $(SECOND),--second $(SECOND))

# An index on disk: opening it, its memory, recall after adding and removing.
bench-index: $(BENCH_VENV)/with-bench
	$(BENCH) -m benches.engine.index

# k-NN joins by FAISS, hnswlib and here; some of them by, say, CASES='growth identical'.
bench-join: $(BENCH_VENV)/with-peers
	$(BENCH) -m benches.engine.knn_join $(if $(CASES),--cases $(CASES))

# Each kernel on each instruction set, beside what the machine can do at most: three times.
ROUNDS := $(CURDIR)/target/bench-kernels

bench-kernels: $(BENCH_VENV)/with-bench
	rm -rf $(ROUNDS)
	for round in 1 2 3; do \
	    CRITERION_HOME=$(ROUNDS)/$$round \
	        cargo bench --package lshjoin-benches --bench kernels -- --noplot || exit; done
	$(BENCH) -m benches.engine.kernels $(ROUNDS)

# Joins planned for a recall beside a grid of plans; some of them by, say, CASES='wordnet sphere'.
bench-planner: $(BENCH_VENV)/with-bench
	$(BENCH) -m benches.engine.planner $(if $(CASES),--cases $(CASES))

# A self-join of 5,000,000 descriptors on disk in 3 GiB; other numbers by, say, ROWS=20000000.
bench-out-of-core: $(BENCH_VENV)/built $(BENCH_VENV)/with-bench
	$(BENCH) -m benches.engine.out_of_core $(if $(ROWS),--rows $(ROWS)) $(if $(CGROUP),--cgroup $(CGROUP))

# Time and memory from 10,000 rows to ROWS=3000000, or of parts of DATA=rows.npy with K=... neighbours.
bench-growth: $(BENCH_VENV)/with-peers
	$(BENCH) -m benches.comparison.growth $(if $(ROWS),--rows $(ROWS)) $(if $(DATA),--data $(DATA)) \
	    $(if $(K),--k $(K))

# The k-NN graph of the SISAP challenges, of DATA=rows.npy: benches/sisap/README.md.
bench-sisap: $(BENCH_VENV)/with-bench
	$(BENCH) -m benches.engine.sisap --data $(DATA)

# Packed bits beside FAISS's binary indexes; of embeddings in a file by, say, VECTORS=rows.npy.
bench-binary: $(BENCH_VENV)/with-peers
	$(BENCH) -m benches.comparison.binary_join $(if $(VECTORS),--vectors $(VECTORS))

# Radius joins: of a model's candidates, and of all pairs into a Parquet file.
bench-radius: $(BENCH_VENV)/built
	$(BENCH) -m benches.engine.radius_join

# UMAP with our neighbours and with its own.
bench-umap: $(PLUGS_VENV)/built $(PLUGS_VENV)/with-plugs
	$(PLUGS) -m benches.engine.umap_layout

# The main job in Spark and here, in one run, and that of sets; needs Java 17.
bench-spark: $(BENCH_VENV)/with-peers
	$(BENCH) -m benches.comparison.spark_join
	$(BENCH) -m benches.comparison.minhash_join

# Spark and lshjoin.spark on a cluster of two processes; some of it by, say, CASES='join nearest'.
bench-spark-cluster: $(BENCH_VENV)/with-bench
	$(BENCH) -m benches.engine.spark_cluster $(if $(CASES),--cases $(CASES))

$(VENV)/created:
	python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'  # the first that knows groups
	touch $@

# A group of requirements in pyproject.toml.
$(VENV)/with-%: pyproject.toml | $(VENV)/created
	$(BIN)/python -m pip install --quiet --group $*
	touch $@

# All that build, demo, docs, test and lint need, at once.
GROUPS := lint build demo docs test

packages: pyproject.toml | $(VENV)/created
	$(BIN)/python -m pip install --quiet $(GROUPS:%=--group %)
	touch $(GROUPS:%=$(VENV)/with-%)

$(VENV)/built: $(RUST) pyproject.toml | $(VENV)/created $(VENV)/with-build
	$(BIN)/maturin develop --release
	touch $@

# The environment of the benchmarks: what fails to install is remembered, and reported with them.
$(BENCH_VENV)/created:
	python3 -m venv $(BENCH_VENV)
	$(BENCH) -m pip install --quiet --upgrade pip
	touch $@

$(BENCH_VENV)/built: $(VENV)/built | $(BENCH_VENV)/created
	VIRTUAL_ENV=$(BENCH_VENV) $(BIN)/maturin develop --release
	touch $@

$(BENCH_VENV)/with-bench: pyproject.toml | $(BENCH_VENV)/built
	$(BENCH) -m benches.systems.install bench
	touch $@

$(BENCH_VENV)/with-peers: pyproject.toml | $(BENCH_VENV)/with-bench
	$(BENCH) -m benches.systems.install peers
	touch $@

$(PLUGS_VENV)/created:
	python3 -m venv $(PLUGS_VENV)
	$(PLUGS) -m pip install --quiet --upgrade 'pip>=25.1'
	touch $@

$(PLUGS_VENV)/built: $(VENV)/built | $(PLUGS_VENV)/created
	VIRTUAL_ENV=$(PLUGS_VENV) $(BIN)/maturin develop --release
	touch $@

$(PLUGS_VENV)/with-plugs: pyproject.toml | $(PLUGS_VENV)/created
	$(PLUGS) -m pip install --quiet --group plugs
	touch $@

ANN_SEARCH_RS := benches/systems/ann-search-rs

$(BENCH_VENV)/with-compiled-peers: pyproject.toml $(wildcard $(ANN_SEARCH_RS)/Cargo.*) \
    $(ANN_SEARCH_RS)/src/main.rs | $(BENCH_VENV)/with-bench
	$(BENCH) -m benches.systems.install compiled-peers --rust
	touch $@
