# Everything a newcomer needs: `make run` and `make test`.

CARGO ?= cargo
TRACE ?=
ARGS ?=
POLICIES = policies/gcra policies/monthly-bucket policies/token-bucket policies/daily-window policies/weighted policies/night-discount policies/open-reservations
POLICY_TESTS = --test never_over_admits --test hostile --test frozen --test native_equals_component --test gallery --test shipped

.PHONY: help run test test-full test-containers containers images bench build lint setup setup-cassandra setup-terraform setup-c setup-contract setup-observe policies dist

help:
	@printf '%s\n' \
	  'make run          start two regions of two cells, play a trace through them (TRACE=FILE, ARGS=--once)' \
	  'make test         every test, with the minutes of each part' \
	  'make test-full    the same, with the long ones whole' \
	  'make test-containers  the suites of stores on containers, and a cell in one (Docker)' \
	  'make images       container images of the programs, and of a whole cell (Docker)' \
	  'make bench        micro benchmarks and load runs' \
	  'make build        the programs and the built-in policies' \
	  'make policies     the built-in policies, as WebAssembly components in target/policies' \
	  'make lint         formatting and lints' \
	  'make setup        find or install Redis, Postgres and the WebAssembly target' \
	  'make setup-cassandra  the same for Java and Maven, which a directory on Cassandra needs' \
	  'make setup-c     clang and lld, which a policy in C needs' \
	  'make setup-observe  Prometheus with promtool, which rules are tested by' \
	  'make setup-contract  schemathesis, which holds the OpenAPI document against what is served' \
  'make setup-terraform  tflint, which reads terraform/aws; Terraform itself is not installed' \
	  'make dist         a release archive in target/dist-archives; scripts/try-archive tries it'

setup:
	@scripts/setup

setup-cassandra:
	@scripts/setup cassandra

setup-terraform:
	@scripts/setup terraform

# The test of a policy in C says that it was skipped where this could not be had.
setup-c:
	-@scripts/setup c

# The part that needs it says that it was skipped where this could not be had.
setup-contract:
	-@scripts/setup contract

# The same.
setup-observe:
	-@scripts/setup observe

# Always the whole workspace: a choice of packages is another choice of features, and builds the
# dependencies again.
build: setup
	$(CARGO) build --workspace --bins
	@$(MAKE) --no-print-directory policies

policies:
	@scripts/wasm-target
	@[ -x target/debug/cellctl ] || $(CARGO) build --workspace --bins
	@target/debug/cellctl policy build $(POLICIES) --out target/policies

run: build
	target/debug/cellctl run --trace "$(TRACE)" $(ARGS)

# A part that fails does not keep the others from running; a build that fails does.
test: setup setup-cassandra setup-c setup-contract setup-observe
	@scripts/timed --begin
	@scripts/timed 'build' $(CARGO) build --workspace --all-targets -q
	@scripts/timed 'build: policies' $(MAKE) --no-print-directory policies
	@-scripts/timed 'unit tests' $(CARGO) test --workspace --lib --bins -q --no-fail-fast
	@-scripts/timed 'policies and host' $(CARGO) test --workspace -q --no-fail-fast $(POLICY_TESTS)
	@-scripts/timed 'SDK pages' $(CARGO) test -q -p cellar-policy-sdk --doc
	@-scripts/timed 'models' $(CARGO) test --workspace -q --test models -- --nocapture
	@-scripts/timed 'contract tests' $(CARGO) test --workspace -q --test contract
	@-scripts/timed 'terraform' scripts/terraform
	@-scripts/timed 'rules and dashboards' scripts/prometheus
	@-scripts/timed 'end-to-end tests' $(CARGO) test --workspace -q --test end_to_end -- --test-threads=2
	@-scripts/timed 'contract document' scripts/contract-document
	@$(if $(CELLAR_TEST_FULL),-$(MAKE) --no-print-directory containers)
	@scripts/timed --report

test-full: export CELLAR_TEST_FULL = 1
test-full: test

test-containers: setup
	@scripts/timed --begin
	@scripts/timed 'build' $(CARGO) build --workspace --all-targets -q
	@scripts/timed 'build: policies' $(MAKE) --no-print-directory policies
	@-$(MAKE) --no-print-directory containers
	@scripts/timed --report

# Where no engine can be had it is said, and the parts that need one are missing from the report.
containers:
	@scripts/docker-engine scripts/test-containers || [ $$? = 69 ]

# Where no registry is reached, of the newest programs there are: `make dist images` for those that are shipped.
images: policies
	@scripts/docker-engine scripts/images

bench: setup
	$(CARGO) build --release --workspace --bins
	@scripts/wasm-target
	@target/release/cellctl policy build $(POLICIES) --out target/policies
	@$(CARGO) bench -q --workspace --bench micro
	@target/release/cellar-load
	@target/release/cellar-load --added 5000
	@target/release/cellar-load --exceptions
	@scripts/bench-policies target/release/cellctl target/policies
	@target/release/cellar-load --swap --seconds 15
	@target/release/cellar-load --scan 1000000 --seconds 120

lint:
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path crates/testcontainers/Cargo.toml --check
	$(CARGO) clippy --workspace --all-targets -q -- -D warnings

# What is shipped is what `make bench` measures. `make dist PROFILE=dev` archives what `make build` has built: to try the archive itself.
PROFILE ?= release
dist: setup
	$(CARGO) build --profile $(PROFILE) --workspace --bins
	@$(MAKE) --no-print-directory policies
	@scripts/dist target/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
