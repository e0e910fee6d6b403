// Package patterns drives a described workload against a log and reports what
// it was like: throughput, latency from put to acknowledgement and from put to
// delivery, throttles, the balance of the shards, bytes on disk, processor
// time and allocations.
//
// A Workload says what records there are, how they come and who reads them.
// Run carries it out on a Target and returns a Result. A Report holds the
// results of several runs; it is what is written as JSON, shown as text
// or HTML, and compared.
//
// The package is for benchmarks and no other package of the module imports
// it, except the command.
package patterns
