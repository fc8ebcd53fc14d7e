# The only entry point. `make` without a target prints the list of targets.
#
# Every build below selects examples or tests, so that cargo resolves the same feature set for all of them (the
# dev-dependencies enable `test-support`): `make demo` and `make crds` reuse what `make test` has compiled. Only
# `make release` builds the shipped binary: without the test bench and development features.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The end-to-end tests mostly wait, one of them for two minutes: run more of them at once than there are cores.
E2E_THREADS ?= 10

# Extra arguments of run, demo, e2e, bench and soak: `make demo ARGS=--once`.
ARGS ?=
CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
BUSBAR := $(TARGET_DIR)/debug/busbar
CRDS := crds
REFERENCE := docs/reference

.PHONY: help setup build run fmt lint test unit e2e schemathesis soak crds check-crds docs check-docs chart check-chart check-gitops check-rules deny control-plane \
	peers prometheus releases demo-plan demo demo-first-run bench release image check-image ci check clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## check the build requirements; as root with apt-get, install missing packages
	@hack/setup

build: ## build the operator, the simulated banks and the demo, for development
	$(CARGO) build --bins --examples

run: build ## run the operator against the current kubectl context (ARGS: its flags)
	$(BUSBAR) run $(ARGS)

fmt: ## format the code
	$(CARGO) fmt

lint: ## check formatting and run clippy, warnings denied
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings

test: setup control-plane peers prometheus releases ## set up, then run unit, integration, documentation and end-to-end tests
	$(CARGO) test --no-run
	$(CARGO) test --lib --bins
	$(CARGO) test --test it -- --test-threads=$(E2E_THREADS)
	$(CARGO) test --doc
	$(CARGO) test --test e2e -- --test-threads=$(E2E_THREADS)

unit: ## run unit and integration tests only, without a control plane
	$(CARGO) test --lib --bins
	$(CARGO) test --test it -- --test-threads=$(E2E_THREADS)

e2e: setup control-plane peers prometheus releases ## run end-to-end tests on a real API server (ARGS: a filter)
	$(CARGO) test --test e2e -- --test-threads=$(E2E_THREADS) $(ARGS)

schemathesis: ## test the gateway's API from its OpenAPI document with schemathesis (installed once, into the user's cache)
	@CARGO=$(CARGO) hack/ci/soak schemathesis

soak: setup control-plane ## run an hour and a half of random faults, with a printed seed (ARGS: upgrade, guide, kills, schemathesis, partitions, payouts, random, alternate, properties)
	@CARGO=$(CARGO) hack/ci/soak $(ARGS)

crds: build ## write crds/*.yaml from the types
	$(BUSBAR) crds --out $(CRDS)

check-crds: build ## fail if crds/ is stale
	@hack/ci/same $(CRDS) "make crds" $(BUSBAR) crds --out

docs: build ## write docs/reference/*.md from the flags, types, reasons and metrics
	$(BUSBAR) docs --out $(REFERENCE)

check-docs: build ## fail if docs/reference/ is stale, a link is dead or a rustdoc warning appears
	@hack/ci/same $(REFERENCE) "make docs" $(BUSBAR) docs --out
	$(CARGO) test --test it -- docs::
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --lib --examples

chart: ## write the generated parts of charts/ and config/: copies, values.yaml, install.yaml, Kustomize base (builds Helm once)
	@hack/chart/generate

check-chart: ## check the charts and the plain manifests with a real Helm (ARGS: a filter)
	@hack/ci/chart $(ARGS)

check-gitops: ## check the files for Argo CD, Flux and kube-state-metrics over recorded objects
	@hack/gitops/check

check-rules: ## check the alerting and recording rules and run their unit tests
	@hack/prometheus/check-rules

deny: ## check dependencies: bans, licences, sources, advisories (from a dated snapshot)
	@hack/ci/deny

control-plane: ## build etcd, kube-apiserver, kube-controller-manager and kubectl once, into the user's cache
	@hack/control-plane/build >/dev/null

peers: ## install the third-party test servers once, into the user's cache
	@hack/peers/install >/dev/null

prometheus: ## unpack Prometheus and promtool once into the user's cache, unless they are installed
	@hack/prometheus/install >/dev/null

releases: ## build the previous version once into the user's cache, for the tests that run it on this version's data
	@hack/releases >/dev/null

# Not empty if the demo uses an existing cluster: nothing of Kubernetes is built then.
ON_CLUSTER := $(if $(findstring --context,$(ARGS)),on-cluster)

demo-plan: ## say what the first run of the demo builds, and how long that takes
	@hack/demo/plan $(TARGET_DIR) $(ON_CLUSTER)

demo: demo-plan $(if $(ON_CLUSTER),build,setup) ## run the failover demo (ARGS: --once, or --context=NAME for an existing cluster)
	@$(if $(ON_CLUSTER),,CARGO='$(CARGO)' hack/demo/build)
	@exec $(if $(ON_CLUSTER),hack/demo/on-cluster,$(TARGET_DIR)/debug/examples/demo) $(ARGS)

demo-first-run: ## measure the first run of the demo with empty caches: demo.first_run_s (about 10 minutes, 10 GB)
	@hack/demo/first-run

bench: ## print the figures of docs/performance.md (ARGS: groups)
	$(CARGO) bench --bench figures -- $(ARGS)

release: ## build the release artifacts: binary, manifests, SBOM, checksums (ARGS: flags of hack/release/build)
	@CARGO=$(CARGO) hack/release/build $(ARGS)

image: ## assemble the operator's image without a container engine (ARGS: flags of hack/release/image)
	@CARGO=$(CARGO) hack/release/image $(ARGS)

check-image: build ## fail if two assemblies of the image's own layer differ
	@hack/release/image --check --binary $(BUSBAR)

check: lint unit ## run the checks to pass before a commit

ci: ## run everything that a change must pass, with the duration of each step
	@hack/ci/steps lint check-crds check-docs check-chart check-gitops check-rules deny test check-image 'demo ARGS=--once'

clean: ## remove build output (not the cached control plane)
	$(CARGO) clean
