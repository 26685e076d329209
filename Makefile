# pointsman. `make` lists what there is.
#
# Each of these installs what is missing (cmake, a C compiler) by apt-get, as root or with sudo; see
# scripts/prepare.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test scenarios outage kills upgrades soak matrix clients schemathesis corpus sim walkthroughs slow fuzz supply sbom systemd contrib ui package check build bench profile layout load rivals clean

# Criterion benches; the load bench is `make load`.
BENCHES := $(basename $(notdir $(wildcard benches/*.rs)))

help: ## lists this
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

demo: build ## shows a failover, with nothing to set up; DEMO_FOR=20s ends by itself
	@. scripts/prepare; exec cargo run --release --locked --quiet --bin pointsman -- demo $(if $(DEMO_FOR),--for $(DEMO_FOR))

test: ## runs everything that CI runs
	@scripts/test

scenarios: ## plays all thirty failover scenarios in real time, the public sixteen twice (6 minutes)
	@. scripts/prepare; exec cargo test --locked --quiet --test scenarios -- --full thirty

# The drills judge what was built; POINTSMAN_BIN names another program.
drill = . scripts/prepare; \
	export POINTSMAN_BIN="$${POINTSMAN_BIN:-$${CARGO_TARGET_DIR:-target}/release/pointsman}"; \
	exec cargo test --locked --quiet --test scenarios -- --full

outage: build ## lets every target of a route fail at 200 requests a second, eight times (5 minutes)
	@$(drill) outage

kills: build ## kills a provider's process in the middle of 1,000 streams (1 minute)
	@$(drill) killed

upgrades: build ## upgrades and restarts it twenty times each at 200 requests a second (10 minutes)
	@$(drill) upgrades

soak: build ## plays everything at once and sees what grows (20 minutes); SOAK_FOR=90s is how long
	@$(drill) soak

matrix: ## lets any three of four targets fail, in each of 24 ways, 100 times a cell (5 minutes)
	@. scripts/prepare; POINTSMAN_MATRIX=full exec cargo test --locked --quiet --test it matrix -- --nocapture

clients: ## lets real SDKs and programs call it (10 minutes at most); CLIENTS_ARGS=--write keeps the table
	@scripts/clients $(CLIENTS_ARGS)

schemathesis: ## holds the admin plane against docs/openapi.yaml, with inputs good and bad (2 minutes)
	@scripts/schemathesis

corpus: ## reads recorded traffic of all providers and prints what came of it (1 minute)
	@. scripts/prepare; exec cargo test --locked --quiet --test it -- corpus_table corpus_sdk --nocapture --test-threads 1

SEEDS := 10000
sim: ## simulates 10,000 seeds of failing providers; SEEDS=n plays n
	@. scripts/prepare; POINTSMAN_SEEDS=$(SEEDS) exec cargo test --locked --lib exchange::simulation -- --nocapture

walkthroughs: build ## walks the eight tasks of an operator, as scripts (1 minute)
	@POINTSMAN_BIN="$${POINTSMAN_BIN:-$${CARGO_TARGET_DIR:-target}/release/pointsman}" tests/walkthroughs/all.sh

slow: build ## puts 2,000 slow clients, long bodies and ten HTTP/2 floods beside good traffic (3 minutes)
	@python3 -m venv target/edge-venv; target/edge-venv/bin/pip install --quiet -r tests/edge/requirements.txt; \
	export POINTSMAN_BIN="$${POINTSMAN_BIN:-$${CARGO_TARGET_DIR:-target}/release/pointsman}"; \
	target/edge-venv/bin/python tests/edge/slow.py; target/edge-venv/bin/python tests/edge/bodies.py; \
	target/edge-venv/bin/python tests/edge/floods.py

fuzz: ## looks for bytes that break a property, 14 targets, a minute each; FUZZ_FOR=600 ten
	@scripts/fuzz

supply: ## checks licences, sources, advisories and unused dependencies
	@scripts/supply --install

sbom: ## writes target/packages/pointsman.cdx.json, what the program is made of
	@mkdir -p "$${CARGO_TARGET_DIR:-target}/packages"; scripts/sbom "$${CARGO_TARGET_DIR:-target}/packages/pointsman.cdx.json"

systemd: build ## installs, reloads, drains, upgrades and purges the package in a booted Debian; as root
	@scripts/walk-systemd

contrib: build ## checks alerts, dashboard, Dockerfile and manifests against a live proxy
	@scripts/check-contrib

ui: ## looks at the page /ui in Chromium (1 minute); UI_PICTURES=DIR keeps screenshots
	@scripts/ui $(UI_PICTURES)

package: build ## makes target/packages/pointsman_*.deb and a tarball
	@scripts/package all

check: ## formats, lints and type-checks, without running a test
	@. scripts/prepare; cargo fmt --check; cargo clippy --locked --all-targets -- -D warnings; scripts/check-unit

build: ## builds target/release/pointsman
	@. scripts/prepare; say "building pointsman (the first time takes some minutes)"; \
	cargo build --release --locked --bin pointsman

bench: ## runs the benches of single decisions
	@. scripts/prepare; [ -n "$(BENCHES)" ] || fail "there is no bench in benches/ yet"; \
	for bench in $(BENCHES); do cargo bench --locked --bench "$$bench"; done

profile: ## writes which ways calls take through the program, from a run of it (20 minutes); `make layout` is next
	@. scripts/prepare; scripts/profile

layout: build ## writes which functions of the program lie beside each other, from a run of it (1 minute)
	@scripts/layout

load: build ## compares with nginx and a bare Pingora proxy (6 minutes); LOAD_ARGS="--rivals --write"
	@. scripts/prepare; cargo bench --locked --bench load -- $(LOAD_ARGS)

rivals: ## installs what LOAD_ARGS=--rivals compares with: HAProxy, Envoy, LiteLLM, Portkey
	@scripts/rivals

clean: ## removes everything that was built
	@cargo clean
