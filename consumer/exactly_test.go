package consumer_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/consumer"
	"github.com/shardlog/shardlog/stream"
)

// A handler that copies records to another stream of the same database, in one
// transaction with its checkpoint: each record is there once, although calls
// fail before and after the commit, and the stream is resharded.
func TestCopyBetweenStreamsExactlyOnce(t *testing.T) {
	ctx := t.Context()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	from, err := db.Create(ctx, "from", stream.Config{Shards: 2})
	require.NoError(t, err)
	to, err := db.Create(ctx, "to", stream.Config{Shards: 3})
	require.NoError(t, err)
	const n = 600
	for i := range n {
		_, err := from.Put(ctx, shardlog.Record{PartitionKey: fmt.Sprint("key", i%20), Data: fmt.Append(nil, i)})
		require.NoError(t, err)
		if i == n/2 {
			require.NoError(t, from.Reshard(ctx, 3))
		}
	}
	calls := make(chan int, 1)
	calls <- 0
	copied := make(chan struct{}, n)
	h := consumer.HandlerFunc(func(ctx context.Context, b *consumer.Batch) error {
		call := <-calls + 1
		calls <- call
		tx := db.Begin()
		tx.Put(to, b.Records...)
		if err := consumer.CheckpointIn(ctx, b, tx, shardlog.After(b.Records[len(b.Records)-1].Sequence)); err != nil {
			return err
		}
		if call%4 == 1 {
			return errBroken
		}
		if call%4 == 2 {
			return nil // and forgets the commit
		}
		_, err := tx.Commit(ctx)
		if err == nil {
			for range b.Records {
				copied <- struct{}{}
			}
			if call%4 == 3 {
				return errBroken // although it is done
			}
		}
		return err
	})
	c, err := consumer.New(from, &consumer.Options{MaxBatchRecords: 17, Retry: consumer.Retry{Initial: time.Microsecond}})
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx, h) }()
	for range n {
		<-copied
	}
	require.NoError(t, c.Shutdown(ctx))
	require.NoError(t, <-done)
	shards, err := to.Shards(ctx)
	require.NoError(t, err)
	last := map[string]int{}
	total := 0
	for _, s := range shards {
		for rec, err := range to.Records(ctx, s.ID, shardlog.TrimHorizon()) {
			require.NoError(t, err)
			var i int
			_, err = fmt.Sscan(string(rec.Data), &i)
			require.NoError(t, err)
			if before, ok := last[rec.PartitionKey]; ok {
				require.Equal(t, before+20, i, "each record once, and in order")
			}
			last[rec.PartitionKey] = i
			total++
		}
	}
	assert.Equal(t, n, total)
	assert.Equal(t, uint64(n), c.Stats().RecordsProcessed)
}
