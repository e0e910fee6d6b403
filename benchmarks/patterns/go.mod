module github.com/shardlog/shardlog/benchmarks/patterns

go 1.25.0

require (
	github.com/HdrHistogram/hdrhistogram-go v1.4.0
	github.com/aclements/go-moremath v0.0.0-20210112150236-f10218a38794
	github.com/shardlog/shardlog v0.1.0
	github.com/stretchr/testify v1.11.1
	go.yaml.in/yaml/v3 v3.0.6
)
