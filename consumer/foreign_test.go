package consumer_test

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/consumer"
)

// foreignSource numbers the records of one shard as no log of this module does:
// by plain decimal numbers from 0 on.
type foreignSource struct{ *source }

func (s foreignSource) Capabilities() shardlog.Capabilities { return shardlog.Capabilities{} }

func (s foreignSource) Shards(ctx context.Context) ([]shardlog.ShardInfo, error) {
	infos, err := s.source.Shards(ctx)
	for i := range infos {
		infos[i].First = foreignNumber(0)
	}
	return infos, err
}

func (s foreignSource) Read(ctx context.Context, req shardlog.ReadRequest) (shardlog.Page, error) {
	if req.From.Kind() == shardlog.KindAfter {
		n, err := strconv.Atoi(req.From.Sequence().String())
		if err != nil {
			return shardlog.Page{}, err
		}
		req.From = shardlog.After(seq(0, n))
	}
	page, err := s.source.Read(ctx, req)
	for i := range page.Records {
		r := &page.Records[i]
		r.Sequence = foreignNumber(int(counterOf(r.Sequence)) - 1)
		page.Next = shardlog.After(r.Sequence)
	}
	return page, err
}

func foreignNumber(n int) shardlog.SequenceNumber {
	seq, err := shardlog.ParseSequenceNumber(strconv.Itoa(n))
	if err != nil {
		panic(err)
	}
	return seq
}

// A consumer needs only the order of sequence numbers: the check for a stream
// that was recreated passes numbers that do not say when their shard was created.
func TestNumbersOfAnotherLog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		src.put(0, 5)
		for n := 5; n <= 10; n += 5 {
			r := start(t, foreignSource{src}, k, consumer.Options{Store: st})
			synctest.Wait()
			r.stop()
			row := st.row(t, 0)
			require.Equal(t, shardlog.After(foreignNumber(n-1)), row.Checkpoint)
			src.put(0, 5)
		}
		assert.Equal(t, names(0, 0, 10), k.got())
	})
}
