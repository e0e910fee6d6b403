// Package cost estimates what a load would need and cost as a Kinesis data
// stream on AWS: shards, the risk of being throttled, and dollars a month in
// the provisioned and the on-demand mode, with and without aggregation.
//
// A load is a [Pattern]: described with [Describe], or measured from real
// records with a [Trace]. [Make] turns it into an [Estimate], at the [Prices]
// of a dated file; [DefaultPrices] are built in, and [ReadPrices] reads others.
//
// The package computes only: it opens no files and no connections. Its values
// may be used concurrently as long as nobody changes them. Sizes are in bytes,
// a KB of a price is 1,024 bytes and a GB 2^30, rates are per second.
package cost
