module github.com/shardlog/shardlog/cmd/shardlog

go 1.25.0

require (
	github.com/shardlog/shardlog v0.1.0
	github.com/shardlog/shardlog/benchmarks/patterns v0.1.0
	github.com/stretchr/testify v1.11.1
)
