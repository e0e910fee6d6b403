package consumer_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/consumer"
	"github.com/shardlog/shardlog/internal/kpl"
)

// limitedSource is a source with other capabilities.
type limitedSource struct {
	*source
	caps shardlog.Capabilities
}

func (s limitedSource) Capabilities() shardlog.Capabilities { return s.caps }

// What options ask for and the source has not is an error of New.
func TestWhatTheSourceCannotDo(t *testing.T) {
	all := newSource(1).Capabilities()
	aTime := shardlog.AtTime(time.Unix(1000, 0))
	for name, c := range map[string]struct {
		opts  consumer.Options
		take  func(*shardlog.Capabilities)
		needs string
	}{
		"a time":           {consumer.Options{Start: aTime}, func(c *shardlog.Capabilities) { c.TimeSeek = shardlog.TimeSeekNone }, "TimeSeek"},
		"whole aggregates": {consumer.Options{WholeAggregates: true}, func(c *shardlog.Capabilities) { c.KeyRanges = false }, "KeyRanges"},
		"leases":           {consumer.Options{}, func(c *shardlog.Capabilities) { c.Groups = shardlog.GroupsBroker }, "GroupsLibrary"},
	} {
		t.Run(name, func(t *testing.T) {
			c.opts.Store = newStore()
			caps := all
			_, err := consumer.New(limitedSource{newSource(1), caps}, &c.opts)
			require.NoError(t, err)
			c.take(&caps)
			_, err = consumer.New(limitedSource{newSource(1), caps}, &c.opts)
			require.ErrorIs(t, err, shardlog.ErrUnsupported)
			assert.ErrorContains(t, err, c.needs)
		})
	}
	t.Run("the writer's time", func(t *testing.T) {
		caps := all
		caps.TimeSeek = shardlog.TimeSeekProducer
		_, err := consumer.New(limitedSource{newSource(1), caps}, &consumer.Options{Start: aTime, Store: newStore()})
		require.NoError(t, err)
	})
	t.Run("no capabilities", func(t *testing.T) {
		_, err := consumer.New(limitedSource{newSource(1), shardlog.Capabilities{}}, &consumer.Options{Store: newStore()})
		require.NoError(t, err, "the defaults ask for none")
	})
}

func TestSeekToATimeThatTheSourceCannotFind(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, k := newSource(1), &sink{}
		src.put(0, 3)
		r := start(t, limitedSource{src, shardlog.Capabilities{}}, k, consumer.Options{Store: newStore()})
		settle()
		require.ErrorIs(t, r.Seek(t.Context(), shardID(0), shardlog.AtTime(time.Now())), shardlog.ErrUnsupported)
		r.stop()
		assert.Equal(t, names(0, 0, 3), k.got())
	})
}

// Where the ranges of shards do not say where a key belongs, no user record is
// taken for one of another shard.
func TestAggregatesOfASourceWithoutKeyRanges(t *testing.T) {
	var b kpl.Builder
	b.Add(kpl.UserRecord{PartitionKey: "a", Data: []byte("1")}, 1000)
	b.Add(kpl.UserRecord{PartitionKey: "b", Data: []byte("2")}, 1000)
	aggregate := b.Append(nil)
	for _, ranges := range []bool{true, false} {
		bubble(t, func(t *testing.T) {
			src, k := newSource(1), &sink{}
			src.mu.Lock()
			sh := src.shards[0]
			sh.info.HashEnd = sh.info.HashStart // holds neither key
			sh.records = []shardlog.Record{{PartitionKey: "a", Data: aggregate, Sequence: seq(0, 0), ShardID: shardID(0), Arrival: time.Now()}}
			src.mu.Unlock()
			r := start(t, limitedSource{src, shardlog.Capabilities{KeyRanges: ranges}}, k, consumer.Options{Store: newStore()})
			settle()
			r.stop()
			if ranges {
				assert.Empty(t, k.got())
			} else {
				assert.Equal(t, []string{"1", "2"}, k.got())
			}
		})
	}
}
