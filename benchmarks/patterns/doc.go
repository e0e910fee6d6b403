// Package patterns runs a described workload on a log and measures it: throughput, latency from put to acknowledgement and from put to
// delivery, throttles, the balance of the shards, bytes on disk, processor
// time and allocations.
//
// A Workload describes the records, the rate and way of putting them, and the
// consumers. Run executes it on a Target and returns a Result. A Report has the
// results of several runs; reports are written as JSON, text or HTML, and
// compared.
//
// The package is a module of its own, so that the log does not require the
// libraries for histograms, statistics and YAML.
package patterns
