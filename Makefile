# Everything a newcomer needs: `make run` and `make test`.

CARGO ?= cargo
TRACE ?=
ARGS ?=
BINARIES = -p cellar-router -p cellar-cell -p cellar-cellctl
POLICIES = policies/gcra policies/monthly-bucket

.PHONY: help run test test-full bench build lint setup policies dist

help:
	@printf '%s\n' \
	  'make run          start two regions of two cells, play a trace through them (TRACE=FILE, ARGS=--once)' \
	  'make test         every test, with the minutes of each part' \
	  'make test-full    the same, with the long ones whole' \
	  'make bench        micro benchmarks and load runs' \
	  'make build        the programs and the built-in policies' \
	  'make policies     the built-in policies, as WebAssembly components in target/policies' \
	  'make lint         formatting and lints' \
	  'make setup        find or install Redis, Postgres and the WebAssembly target' \
	  'make dist         release builds'

setup:
	@scripts/setup

build: setup
	$(CARGO) build $(BINARIES)
	@$(MAKE) --no-print-directory policies

policies:
	@$(CARGO) build -q -p cellar-cellctl
	@target/debug/cellctl policy build $(POLICIES) --out target/policies

run: build
	target/debug/cellctl run --trace "$(TRACE)" $(ARGS)

# A part that fails does not keep the others from running.
test: setup
	@scripts/timed --begin
	@scripts/timed 'build: programs' $(CARGO) build $(BINARIES)
	@scripts/timed 'build: policies' $(MAKE) --no-print-directory policies
	@scripts/timed 'build: tests' $(CARGO) test --workspace --no-run -q
	@-scripts/timed 'unit and property tests' $(CARGO) test --workspace --exclude cellar-tests -q
	@-scripts/timed 'contract tests' $(CARGO) test -p cellar-tests --test contract -q
	@-scripts/timed 'end-to-end tests' $(CARGO) test -p cellar-tests --test end_to_end -q -- --test-threads=2
	@scripts/timed --report

test-full: export CELLAR_TEST_FULL = 1
test-full: test

bench:
	@$(CARGO) build --release $(BINARIES) -p cellar-benches
	@$(MAKE) --no-print-directory policies
	@$(CARGO) bench -p cellar-benches
	@target/release/cellar-load

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -q -- -D warnings

dist:
	$(CARGO) build --release $(BINARIES)
