STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME    := 30s

.PHONY: all build test race lint fuzz bench bench-compare bench-commits cross ci

all: build lint test

build:
	CGO_ENABLED=0 go build ./...

test:
	go test ./...

race:
	CGO_ENABLED=1 go test -race ./...

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	go vet ./...
	go run $(STATICCHECK) ./...

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
