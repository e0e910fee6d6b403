// Package shardlog is the vocabulary of a durable, sharded, replayable log that
// runs inside a Go process: records, sequence numbers, positions, shards, errors,
// and the interfaces Sink and Source. It is modelled on Amazon Kinesis.
//
// The log itself is package stream. Packages producer and consumer write and
// read it, or any other Sink and Source. This package imports none of them, so
// that code written against it does not link the storage engine.
//
// # Quick start
//
// A database is a directory. It holds any number of streams, and each stream is
// divided into shards. Ensure creates the stream in the first run and opens it in
// the next ones:
//
//	db, err := stream.Open("data", nil)
//	orders, err := db.Ensure(ctx, "orders", stream.Config{Shards: 4})
//
// A Stream is complete without a client. Put returns when the record is on disk,
// and Records reads a shard:
//
//	put, err := orders.Put(ctx, shardlog.Record{PartitionKey: "customer-17", Data: data})
//	for r, err := range orders.Records(ctx, put.ShardID, shardlog.TrimHorizon()) { ... }
//
// A Producer batches records, retries, and keeps the order of each key meanwhile:
//
//	p, err := producer.New(orders, nil)
//	err = p.PutAsync(ctx, record, func(res producer.Result, err error) { ... })
//	err = p.Shutdown(ctx) // every record has its result now
//
// A Consumer is one worker of a group. The workers of a group, in one process or
// in many, share the shards and store how far they are:
//
//	c, err := consumer.New(orders, &consumer.Options{Group: "billing"})
//	err = c.Run(ctx, consumer.Each(func(ctx context.Context, r shardlog.Record) error { ... }))
//
// The example of this package is the whole program, and runs twice.
//
// # Records, keys and shards
//
// A record has a partition key and data, and may have headers. The MD5 of its
// partition key is its hash key; each open shard has a range of hash keys; so all
// records of a key are on one shard, in the order in which they were stored. An
// ExplicitHashKey chooses the shard directly.
//
// A stored record has a SequenceNumber, which grows along its shard. A Position is
// a place between two records: TrimHorizon, Latest, At, After, or AtTime.
//
// Split, Merge and Reshard change the number of shards while writers write and
// readers read. Closed shards are read to their end, and then their children; a
// consumer does this by itself. Order per key is kept across a reshard.
//
// # Durability
//
// What was acknowledged survives the end of the process in every mode, also by
// kill -9. The mode decides about the end of the machine:
//
//   - stream.SyncAlways, the default: each acknowledged record is synced to the
//     disk. Records that are written at the same time share one commit and one
//     sync (group commit), so many writers are not slower than one.
//   - stream.SyncInterval: synced in the background, each 100 ms by default.
//   - stream.SyncNever: whenever the operating system writes it.
//
// Each block of records has a checksum. Damage is reported with its place, as a
// CorruptError, and what follows it can be read. If a sync fails, the state of the
// disk is not known: all further writes fail with ErrStorage until the database is
// opened again.
//
// # Delivery
//
// By default a consumer delivers at least once: after a crash, the records since
// the last checkpoint come again. Effects happen exactly once where the
// checkpoint is stored in the same transaction as they are: in the stream's
// database (DB.Begin), or in the program's own (consumer.CheckpointIn with
// sqlcheckpoint or badgercheckpoint).
//
// A producer whose request got no answer sends it again, and the records may be
// stored twice. With an identity (producer.Options.ID), or with a DedupID on each
// record, they are stored once.
//
// # Errors
//
// Errors are tested with errors.Is against the values of this package, such as
// ErrNotFound, and carry their place in an Error or one of the other types.
// Retryable reports whether the same call may succeed later. Two errors say what
// is stored: after ErrUnknownOutcome a record may or may not be there; after
// ErrNotTried it is certainly not.
//
// A sink or a source that cannot do what an option asks for is refused with
// ErrUnsupported when the client is made; see Capabilities.
//
// # Packages
//
//   - stream: databases, streams, transactions, retention, backup. Start here.
//   - shard: a handle on one shard, to read it, append to it on a condition,
//     follow it, and trim it.
//   - producer: batches, retries, order per key, aggregation, rate limits.
//   - consumer: groups, checkpoints, retries, dead letters, order per key with
//     several calls at a time.
//   - checkpoint: where groups keep their progress: in memory or in files. Other
//     stores are packages below it: badgercheckpoint, sqlcheckpoint,
//     redischeckpoint, dynamodbcheckpoint. checkpointtest tests a new one.
//   - awsapi/kinesisapi: the log as a Kinesis endpoint, for any AWS SDK, and
//     kinesistest: the same in one line of a Go test.
//   - cost: what a load would cost on AWS.
//
// The command cmd/shardlog serves the endpoint, manages streams, puts and tails
// records, and measures workloads.
//
// # Further reading
//
// docs/DESIGN.md explains how the log works and in which order to read its code,
// docs/FORMAT.md what is on disk, docs/GLOSSARY.md the words, docs/SCENARIOS.md
// what can go wrong and which test shows that it does not, and docs/adr why things
// are as they are.
package shardlog
