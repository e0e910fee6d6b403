FUZZTIME := 30s

.PHONY: all build test race lint modules fuzz bench bench-compare bench-commits cross ci

all: build lint test

build:
	bash .ci/run build

test:
	go test ./...

race:
	CGO_ENABLED=1 go test -race ./...

lint:
	bash .ci/run format vet staticcheck

modules:
	bash .ci/run modules

fuzz:
	FUZZTIME=$(FUZZTIME) FUZZTOTAL=0 bash .ci/run fuzz

bench:
	go run ./benchmarks

bench-compare:
	bash benchmarks/compare/run.sh

# make bench-commits OLD=main [NEW=branch] [PKG=./internal/logstore BENCH=Append COUNT=8]
# make bench-commits OLD=main WORKLOADS="clickstream batched"
bench-commits:
	OLD="$(OLD)" NEW="$(NEW)" PKG="$(PKG)" BENCH="$(BENCH)" COUNT="$(COUNT)" WORKLOADS="$(WORKLOADS)" FLAGS="$(FLAGS)" \
		bash benchmarks/commits.sh $(OLD) $(NEW)

cross:
	bash .ci/run cross

ci:
	bash .ci/run
