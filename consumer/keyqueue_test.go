package consumer

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

// Queues that wait for keys to come keep nothing of the pages that they are from.
func TestSpareQueuesKeepNoRecords(t *testing.T) {
	qs := newKeyQueues(0)
	begun := 0
	qs.add(&chunk{records: []shardlog.Record{{PartitionKey: "a"}, {PartitionKey: "b"}, {PartitionKey: "a"}}}, func(*keyQueue) { begun++ })
	require.Equal(t, 2, begun)
	for key := range strings.SplitSeq("b a", " ") {
		q := qs.keys[key]
		q.finish(q.length)
		qs.release(q)
	}
	_, done := qs.takeDone()
	require.True(t, done)
	require.True(t, qs.empty())
	require.Len(t, qs.spare, 2)
	for _, q := range qs.spare {
		require.Equal(t, keyQueue{attempt: 1}, *q)
	}
}
