# Tributary: `make` alone is what a commit needs; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := check

PORT ?= 8080
TRIBUTARY_DATA ?= .tributary
PARTS ?= embedded
export PORT TRIBUTARY_DATA PARTS

MODULES := $(shell sed -n 's/^\t\.\///p' go.work)
PACKAGES := $(MODULES:%=./%/...)
SERVICE_COMMANDS := $(addprefix ./,$(wildcard services/*/cmd/*))
# A pinned tool, built from its own module: $(call tool,<module>,<name>) is the path of its binary.
tool = $$(cd deploy/tools/$(1) && GOWORK=off go tool -n $(2))
# Where `make services` runs, tests and the demo find its parts in this file.
SERVICES_ENV = $${TRIBUTARY_SERVICES:-.services}/env

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

.PHONY: check
check: lint test ## Lint and test: what a commit needs

.PHONY: up
up: build ## Build and run the mesh on http://127.0.0.1:$(PORT), data in $(TRIBUTARY_DATA)
	@exec bin/tributary up

.PHONY: build
build: ## Build the command line into bin/
	@go build -o bin/tributary ./services/standalone/cmd/tributary

.PHONY: demo
demo: ## Show the whole way of a message, and an erasure with proof (PARTS=real: own processes, Kafka, PostgreSQL)
	@if [ "$(PARTS)" = real ]; then $(MAKE) --no-print-directory services; . $(SERVICES_ENV); fi; \
	go build -o bin/ $(if $(filter real,$(PARTS)),$(SERVICE_COMMANDS),./services/standalone/cmd/tributary) && \
	go run ./deploy/demo -bin bin -parts "$(PARTS)"

DESK ?= 9400

.PHONY: standin
standin: ## Run the stand-in of every provider on loopback, and say how a mesh is told of them (DESK=port)
	@go run ./deploy/standin -port "$(DESK)" -mesh "http://127.0.0.1:$(PORT)"

# Their defaults are the program's own: 20,000 webhooks, a seed of the day, every scenario.
N ?=
SEED ?=
SCENARIO ?=
PROOF = bin/proof -bin bin -parts "$(PARTS)" $(if $(N),-n $(N)) $(if $(SEED),-seed $(SEED)) $(if $(SCENARIO),-scenario "$(SCENARIO)")

.PHONY: proof
proof: ## Do harm to a mesh and compare what it shows (N=, SEED=, SCENARIO=crash,replay, PARTS=real)
	@go build -o bin/ ./deploy/proof && $(PROOF) -list >/dev/null
	@if [ "$(PARTS)" = real ]; then $(MAKE) --no-print-directory services; . $(SERVICES_ENV); fi; \
	go build -o bin/ $(if $(filter real,$(PARTS)),$(SERVICE_COMMANDS),./services/standalone/cmd/tributary) && exec $(PROOF)

.PHONY: test
test: ## Run every test; on Kafka and PostgreSQL too where `make services` runs (with CI=true: starts and requires them)
	@if [ "$${CI:-}" = true ] || [ -f $(SERVICES_ENV) ]; then $(MAKE) --no-print-directory services; . $(SERVICES_ENV); fi; \
	gotestsum=$(call tool,test,gotestsum); events=$$(mktemp); trap 'rm -f "$$events"' EXIT; status=0; \
	$$gotestsum --format pkgname-and-test-fails --format-hide-empty-pkg --hide-summary=output --jsonfile "$$events" \
	  -- -count=1 -timeout 30m -p 2 $(PACKAGES) || status=$$?; \
	sed -nE 's/.*"Output":"[^"]*: (NOT RUN [^"]*)\\n".*/\1/p' "$$events" | sort | uniq -c; \
	exit $$status

BENCH = bin/bench -bin bin $(if $(MEASURE),-measure "$(MEASURE)") $(if $(WINDOW),-window "$(WINDOW)") $(if $(ROUNDS),-rounds "$(ROUNDS)")

.PHONY: bench
bench: ## Measure the mesh on Kafka and PostgreSQL, hold it to its floors (MEASURE=ingest,drain WINDOW=20s ROUNDS=5)
	@go build -o bin/ ./deploy/bench && $(BENCH) -list >/dev/null
	@$(MAKE) --no-print-directory services; . $(SERVICES_ENV); go build -o bin/ $(SERVICE_COMMANDS) && exec $(BENCH)

.PHONY: bench-large
bench-large: ## Measure draining beside 10,000,000 stored messages: a quarter of an hour, 24 GB of disk
	@$(MAKE) --no-print-directory bench MEASURE=large

.PHONY: lint
lint: verify ## golangci-lint (gofmt and vet too), tidy modules, each compiling without the workspace
	@lint=$(call tool,lint,golangci-lint); for m in $(MODULES); do echo "lint $$m"; \
	  (cd $$m && GOWORK=off go mod tidy -diff && GOWORK=off go vet ./... && $$lint run --allow-parallel-runners ./...); done

.PHONY: tidy
tidy: ## Tidy every module, as lint wants them
	@for m in $(MODULES); do (cd $$m && GOWORK=off go mod tidy); done

.PHONY: generate
generate: ## Regenerate what is generated: protobuf, lists from channel.yaml, tables of settings and bounds
	@export PATH=$$(dirname $(call tool,proto,buf)):$$(dirname $(call tool,proto,protoc-gen-go)):$$(dirname $(call tool,proto,protoc-gen-go-grpc)):$$PATH; \
	cd proto && buf lint && buf generate
	@GOWORK=off go run -C libs ./channel/generate .. # go.work may name what is gone, and not what is new
	@go run ./services/standalone/cmd/tributary settings --write .
	@go run ./deploy/bounds

.PHONY: new-channel
new-channel: ## Write the folder of a new channel and spread it (NAME=telegram; docs/adding-a-channel.md)
	@GOWORK=off go run -C libs ./channel/scaffold .. $(NAME) && $(MAKE) --no-print-directory generate

.PHONY: verify
verify: ## Fail when a generated file is not what `make generate` makes
	@sums() { git ls-files -zco --exclude-standard | xargs -0 cksum 2>&1; }; before=$$(sums); $(MAKE) --no-print-directory generate; \
	changed=$$(diff <(echo "$$before") <(sums) | sed -n 's/^[<>] [0-9]* [0-9]* //p' | sort -u || true); \
	[ -z "$$changed" ] || { echo "make generate changes these; commit what it made:"; echo "$$changed"; exit 1; }

.PHONY: services
services: ## Start Kafka and PostgreSQL for tests on loopback
	@deploy/services/up

.PHONY: services-down
services-down: ## Stop them
	@deploy/services/down

.PHONY: clean
clean: ## Remove what was built (not your data)
	@rm -rf bin
