# Counterpoint. `make` alone prints this menu.
GO      ?= go
BIN     := bin/counterpoint
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT  := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
RACE    := ./coordinator/... ./worker/... ./data/...
FUZZ    ?= 5s
FAULTS  ?= 2000
SEEDS   ?= 1000
START   ?= 1
PKG     ?= ./...
T       ?= .
export CGO_ENABLED ?= 0

.PHONY: help build quickstart test race lint fmt bench bench-peer test-real fuzz sim chaos soak test-s3 lint-scripts generate openapi verify clean

help: ## this menu
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## bin/counterpoint, static, without cgo
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) .

quickstart: build ## pre-train, fine-tune and evaluate two tiny backbones (about 4 minutes)
	$(BIN) quickstart

test: ## vet, import rules, all tests, race detector (T=Name PKG=./x narrows it)
	$(GO) vet ./...
	$(GO) test -run '$(T)' -timeout 10m $(PKG)
ifeq ($(PKG)$(T),./....)
	$(MAKE) race
endif

race: ## the race detector on coordinator, worker and data
	CGO_ENABLED=1 $(GO) test -race -short -timeout 10m $(RACE)

lint: ## gofumpt, vet, staticcheck, generated code is current
	@out=$$($(GO) tool gofumpt -l .); if [ -n "$$out" ]; then echo "gofumpt: $$out"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

lint-scripts: ## launchers: shellcheck, Kubernetes schemas, systemd units, flags (installs the validators into .venv/lint)
	scripts/lint.sh
	$(GO) test -count 1 -run 'Launchers|Slurm|Kubernetes' .

fmt: ## format everything
	$(GO) tool gofumpt -w .

bench: ## ours against this machine's limits, with the bars (BENCH="-only sgemm,load")
	$(GO) run ./scripts/bench limits $(BENCH)

bench-peer: ## ours against PyTorch, alternating, with the bars (installs torch into .venv; BENCH="-only tiny")
	scripts/bench-peer.sh $(BENCH)

test-real: ## SmolLM2-135M: made, fine-tuned, scored, exported (about 70 minutes; not in CI)
	scripts/real.sh

fuzz: ## every fuzz target for FUZZ=5s
	scripts/fuzz.sh $(FUZZ)

sim: ## whole clusters in virtual time under random faults (SEEDS=1000 START=1); a failing seed is printed with its command
	$(GO) test -count 1 -timeout 60m ./sim -sim.seeds $(SEEDS) -sim.start $(START) -sim.minutes 5

chaos: build ## 20 kills of everything and 20 kills of one worker, all seeds printed
	$(GO) test -count 1 -timeout 60m -run Chaos . -chaos.rounds 20

S3SERVER := $(abspath bin/versitygw)
soak: ## a real fleet of processes under FAULTS=2000 kills, stops, partitions, slow links, full disks, flipped bits (as root: all kinds)
	$(GO) run ./scripts/chaos -faults $(FAULTS)

test-s3: ## checkpoints in a real S3-compatible server: conformance, faults, resume (builds the server: about 2 minutes; not in CI)
	@mkdir -p bin
	cd scripts/s3server && $(GO) build -o $(S3SERVER) github.com/versity/versitygw/cmd/versitygw
	COUNTERPOINT_S3_SERVER=$(S3SERVER) $(GO) test -count 1 -timeout 15m ./checkpoints/object
	COUNTERPOINT_S3_SERVER=$(S3SERVER) $(GO) test -count 1 -timeout 15m -run S3 .

generate: ## assembly, tokenizer, schema
	$(GO) generate ./...

openapi: ## the API's document, checked by an independent validator (installs openapi-spec-validator into .venv)
	test -x .venv/bin/openapi-spec-validator || (python3 -m venv .venv && .venv/bin/pip -q install openapi-spec-validator==0.9.0)
	$(GO) test ./coordinator/api -run Document
	.venv/bin/openapi-spec-validator coordinator/api/openapi.json

verify: generate ## generated code is committed and current
	git diff --exit-code

clean: ## remove what was built and run
	rm -rf bin runs .venv
