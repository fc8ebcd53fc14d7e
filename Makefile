# The only entry point. `make` alone prints this list.
#
# Every build below selects examples or tests, so that cargo resolves one and the same feature set for all of them (the
# dev-dependencies switch `test-support` on): what `make test` has compiled, `make demo` and `make crds` do not compile
# again. `make release` alone builds what ships: no test bench, no development features.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The end-to-end tests wait more than they compute, one of them for two minutes: many at a time, whatever the machine.
E2E_THREADS ?= 8

# Extra arguments of run, demo, e2e, bench and soak: `make demo ARGS=--once`.
ARGS ?=
CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
BUSBAR := $(TARGET_DIR)/debug/busbar
CRDS := crds
REFERENCE := docs/reference

.PHONY: help setup build run fmt lint test unit e2e soak crds check-crds docs check-docs deny control-plane peers demo bench \
	release ci check clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## check for what a build needs; install what apt can, where root
	@hack/setup

build: ## the operator, the simulated banks and the demo, for development
	$(CARGO) build --bins --examples

run: build ## the operator against your current kubectl context (ARGS: its flags)
	$(BUSBAR) run $(ARGS)

fmt: ## format the code
	$(CARGO) fmt

lint: ## formatting and clippy, warnings denied
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings

test: setup control-plane peers ## set-up, then unit, integration, documentation and end-to-end tests
	$(CARGO) test --no-run
	$(CARGO) test --lib --bins --test it
	$(CARGO) test --doc
	$(CARGO) test --test e2e -- --test-threads=$(E2E_THREADS)

unit: ## unit and integration tests only: no control plane
	$(CARGO) test --lib --bins --test it

e2e: setup control-plane peers ## end-to-end tests on a real API server (ARGS: a filter)
	$(CARGO) test --test e2e -- --test-threads=$(E2E_THREADS) $(ARGS)

soak: setup control-plane ## half an hour of random trouble, with a printed seed (ARGS: random, alternate, properties)
	@CARGO=$(CARGO) hack/ci/soak $(ARGS)

crds: build ## write crds/*.yaml from the types
	$(BUSBAR) crds --out $(CRDS)

check-crds: build ## fail if crds/ is not what the types say
	@hack/ci/same $(CRDS) "make crds" $(BUSBAR) crds --out

docs: build ## write docs/reference/*.md from the flags, types, reasons and metrics
	$(BUSBAR) docs --out $(REFERENCE)

check-docs: build ## fail if docs/reference/ is stale, a link is dead or a rustdoc warning appears
	@hack/ci/same $(REFERENCE) "make docs" $(BUSBAR) docs --out
	$(CARGO) test --test it -- docs::
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --lib --examples

deny: ## dependencies: bans, licences, sources, advisories (from the dated snapshot)
	@hack/ci/deny

control-plane: ## build kube-apiserver, etcd and kubectl once, into the user's cache
	@hack/control-plane/build >/dev/null

peers: ## install the real servers that the tests talk to once, into the user's cache
	@hack/peers/install >/dev/null

demo: setup control-plane build ## the whole loop on this machine (ARGS=--once: play once and end)
	@exec $(TARGET_DIR)/debug/examples/demo $(ARGS)

bench: ## print the figures of docs/performance.md (ARGS: groups)
	$(CARGO) bench --bench figures -- $(ARGS)

release: ## what a release hands out: binary, manifests, SBOM, sums (ARGS: flags of hack/release/build)
	@CARGO=$(CARGO) hack/release/build $(ARGS)

check: lint unit ## what to run before a commit

ci: ## everything that a change must pass, with the time of each step
	@hack/ci/steps lint check-crds check-docs deny test 'demo ARGS=--once'

clean: ## remove build output (not the cached control plane)
	$(CARGO) clean
