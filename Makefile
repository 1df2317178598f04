# Everything a developer runs. `make` alone lists the targets; CI runs `make check`, then `make test`.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
SEEDS ?= 200000
TOOLS ?= $(CURDIR)/target/tools
BUF := $(TOOLS)/python/bin/buf

.PHONY: help build build-cluster build-image run demo cluster cluster-demo compose test test-cluster simulate check fmt lint deny proto promises check-deploy api bench bench-cluster

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the binary, optimised: target/release/pulso
	$(CARGO) build --locked --release -p pulso

run: ## Run Pulso in one process, keeping its data in ./pulso-data
	$(CARGO) run --locked --release -p pulso -- dev

demo: ## Load the sample bill into a fresh folder, print how it adds up, and stop
	$(CARGO) run --locked --release -p pulso -- demo --exit --ingest-addr 127.0.0.1:0 --api-addr 127.0.0.1:0 --admin-addr 127.0.0.1:0

build-cluster: ## Build the binary with the roles of a cluster (Kafka's client takes some minutes)
	$(CARGO) build --locked --release -p pulso --features cluster

cluster: build-cluster ## Start Kafka, Cassandra and every role on loopback, until Ctrl-C (Java 17, Maven)
	scripts/cluster run

cluster-demo: build-cluster ## Load the sample bill through a fresh cluster and compare it with one process
	scripts/cluster demo

build-image: ## Build the container image pulso:local (Docker)
	scripts/docker build -f deploy/Dockerfile -t pulso:local .

compose: ## Start Kafka, ScyllaDB, Kafka UI and every role in containers, until Ctrl-C (Docker)
	scripts/docker compose -f deploy/compose.yaml up --build

# Some tests fill a small disk of their own, which only root may mount: others become root of a name space of their own.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,unshare --user --map-root-user --mount)

test: ## Run all tests, with the simulator's seeds (SEEDS=200000)
	$(AS_ROOT) $(CARGO) test --locked --workspace
	$(MAKE) simulate

test-cluster: ## Start real servers on loopback and run the tests that need them (Java 17, Maven, kcat)
	scripts/test-cluster

simulate: ## Run the fold under seeded crashes, zombies and lost writes (SEEDS=200000)
	$(CARGO) run --locked -p pulso-simulator -- run --seeds $(SEEDS)

check: fmt lint deny proto promises check-deploy ## Check format, lints, documentation, dependencies, protocol, promises, deploy/

fmt: ## Check the format
	$(CARGO) fmt --all --check

lint: ## Check lints and the documentation's links
	$(CARGO) clippy --locked --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --all-features --no-deps

deny: ## Check licences, sources, banned and unused dependencies
	scripts/tool cargo-deny --no-default-features
	scripts/tool cargo-machete
	$(TOOLS)/bin/cargo-deny --all-features --locked check licenses bans sources
	$(TOOLS)/bin/cargo-machete

proto: ## Lint the protocol
	scripts/python
	cd proto && $(BUF) lint

promises: ## Check that every promise has its tests, and every such test its promise
	scripts/promises

check-deploy: ## Check the Dockerfile and compose.yaml, without a container engine
	scripts/python
	scripts/deploy-files

api: ## Try a running server from outside: reflection client and schemathesis on the OpenAPI
	scripts/python
	scripts/outside

bench: ## Measure, interleaved, and print the table of docs/benchmarks.md
	$(CARGO) run --locked --release -p pulso-benches -- table

bench-cluster: ## Start real servers, measure against their bare clients, and print the cluster's table (Java 17, Maven)
	scripts/bench-cluster
