package logstore

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
)

var ctx = context.Background()

const base = 5

// configs describes n shards of stream 1.
func configs(n int) (cs []Config) {
	for i := range n {
		cs = append(cs, Config{ID: ID{1, uint32(i)}, Created: 1000, Base: base})
	}
	return cs
}

// openOn opens a log with n shards on a store that stays when it is closed.
func openOn(t testing.TB, store kv.Store, n int, o Options) (*Log, []*Shard) {
	t.Helper()
	l, err := Open(&faulty{Store: store, failAt: -1, keepOpen: true}, o, configs(n), Recovery{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l, shardsOf(l, n)
}

func shardsOf(l *Log, n int) (ss []*Shard) {
	for i := range n {
		ss = append(ss, l.Shard(ID{1, uint32(i)}))
	}
	return ss
}

// rec makes a record whose data is s.
func rec(s string) shardlog.Record { return shardlog.Record{PartitionKey: "k", Data: []byte(s)} }

// put appends records to one shard and returns the first error.
func put(l *Log, s *Shard, data ...string) error {
	rs, ts := make([]shardlog.Record, len(data)), make([]*Shard, len(data))
	for i := range data {
		rs[i], ts[i] = rec(data[i]), s
	}
	res := make([]shardlog.PutResult, len(data))
	if err := l.Append(ctx, rs, ts, res); err != nil {
		return err
	}
	for i := range res {
		if res[i].Err != nil {
			return res[i].Err
		}
	}
	return nil
}

// contents reads a shard from its horizon on.
func contents(t testing.TB, s *Shard) (data []string) {
	t.Helper()
	var last shardlog.SequenceNumber
	for r, err := range s.Records(ctx, shardlog.TrimHorizon()) {
		require.NoError(t, err)
		require.Positive(t, r.Sequence.Compare(last), "sequence numbers grow")
		last = r.Sequence
		data = append(data, string(r.Data))
	}
	return data
}

// numbers returns the decimal numbers from..to-1 as text, padded to size.
func numbers(from, to, size int) (data []string) {
	for i := from; i < to; i++ {
		data = append(data, fmt.Sprintf("%0*d", max(size, 1), i))
	}
	return data
}

func isInjected(err error) bool { return errors.Is(err, errInjected) }

// arrivalOf returns when the record with the number arrived, in seconds.
func arrivalOf(n shardlog.SequenceNumber) int64 {
	t, _ := n.Arrival()
	return t.Unix()
}
