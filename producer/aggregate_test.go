package producer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kpl"
	"github.com/shardlog/shardlog/producer"
)

func TestAggregatesPerShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(2, allCaps)
		p := newProducer(t, c, &producer.Options{Aggregation: aggregating, Linger: soon})
		names := numbered("", 100)
		o := putAll(t, p, numbered("key", 10), names)
		records := c.records()
		require.Len(t, records, 2, "one for each shard")
		n := 0
		for _, r := range records {
			require.Greater(t, len(r.users), 1)
			n += len(r.users)
			assert.Equal(t, r.users[0].PartitionKey, r.rec.PartitionKey, "the outer key is the first record's")
			assert.Equal(t, shardlog.KeyHash(r.rec.PartitionKey), r.rec.ExplicitHashKey, "and so is its hash key, always set")
			assert.True(t, kpl.IsAggregate(r.rec.Data))
			for i, u := range r.users {
				res := o.res[string(u.Data)]
				assert.EqualValues(t, i, res.SubSequence)
				assert.Equal(t, r.res.Sequence, res.Sequence)
				assert.Equal(t, r.shard, res.ShardID)
				assert.False(t, u.HashKey.IsSet(), "the records' own keys are as they were put")
			}
		}
		assert.Equal(t, 100, n)
		assert.ElementsMatch(t, names, c.names())
		s := p.Stats()
		assert.EqualValues(t, 2, s.Stored)
		assert.EqualValues(t, 100, s.Put)
		assert.InDelta(t, 50, s.RecordsPerStored.Mean(), 0)
		assert.InDelta(t, 2, s.StoredPerRequest.Mean(), 0)
		assert.InDelta(t, 100, s.RecordsPerRequest.Mean(), 0)
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

func TestAggregateLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, tt := range map[string]struct {
			a    producer.Aggregation
			size int
			want []int
		}{
			"count":             {producer.Aggregation{Enabled: true, MaxCount: 3}, 10, []int{3, 3, 3, 1}},
			"size":              {producer.Aggregation{Enabled: true, MaxSize: 1000}, 200, []int{4, 4, 2}},
			"larger goes alone": {producer.Aggregation{Enabled: true, MaxSize: 64}, 200, []int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
			"all in one":        {producer.Aggregation{Enabled: true}, 200, []int{10}},
		} {
			c := newCluster(1, allCaps)
			p := newProducer(t, c, &producer.Options{Aggregation: tt.a, Linger: soon})
			var names []string
			for i := range 10 {
				names = append(names, fmt.Sprint(i, strings.Repeat("x", tt.size-1)))
			}
			putAll(t, p, []string{"k"}, names)
			assert.Equal(t, [][]int{tt.want}, c.sizes(), name)
			for _, r := range c.records() {
				if len(r.users) > 1 {
					assert.LessOrEqual(t, len(r.rec.Data), p.Resolved().Aggregation.MaxSize, name)
				} else {
					assert.False(t, kpl.HasMagic(r.rec.Data), "%s: alone, it is not wrapped", name)
				}
			}
			assert.Equal(t, names, c.names(), name)
			require.NoError(t, p.Shutdown(t.Context()))
		}
	})
}

// A record that is put after one that is too large for the aggregate must not
// go into an aggregate before it.
func TestAggregationKeepsOrderAroundALargeRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(1, allCaps)
		p := newProducer(t, c, &producer.Options{Aggregation: producer.Aggregation{Enabled: true, MaxSize: 200}, Linger: soon})
		names := []string{"a", "b", strings.Repeat("c", 300), "d", "e"}
		putAll(t, p, []string{"k"}, names)
		assert.Equal(t, names, c.names())
		assert.Equal(t, [][]int{{2, 1, 2}}, c.sizes())
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

func TestWhatIsNotAggregated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(1, allCaps)
		p := newProducer(t, c, &producer.Options{Aggregation: aggregating, Linger: soon})
		magic := kpl.Magic + "and then some text of the user"
		require.NoError(t, p.PutAsync(t.Context(), rec("k", magic), nil))
		require.NoError(t, p.Flush(t.Context()))
		require.NoError(t, p.PutAsync(t.Context(), shardlog.Record{PartitionKey: "k", Data: []byte("with id"), DedupID: "1"}, nil))
		require.NoError(t, p.PutAsync(t.Context(), rec("k", "x"), nil))
		require.NoError(t, p.PutAsync(t.Context(), rec("k", "y"), nil))
		require.NoError(t, p.Flush(t.Context()))
		require.NoError(t, p.PutAsync(t.Context(), shardlog.Record{PartitionKey: "k", Data: []byte("h"), Headers: []shardlog.Header{{Key: "a", Value: "b"}}}, nil))
		require.NoError(t, p.Flush(t.Context()))
		got := c.records()
		require.Len(t, got, 4)
		assert.True(t, kpl.IsAggregate(got[0].rec.Data), "what begins with the magic is wrapped")
		assert.Equal(t, magic, string(got[0].users[0].Data))
		assert.Equal(t, "with id", string(got[1].rec.Data))
		assert.Equal(t, "1", got[1].rec.DedupID)
		assert.Len(t, got[2].users, 2)
		assert.Equal(t, "h", string(got[3].rec.Data), "one alone goes raw, and keeps its headers")
		assert.Len(t, got[3].rec.Headers, 1)
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

func TestHeadersAndHashKeysInAggregates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(2, allCaps)
		p := newProducer(t, c, &producer.Options{Aggregation: aggregating, Linger: soon})
		hash := shardlog.KeyHash("k")
		headers := []shardlog.Header{{Key: "a", Value: "1"}, {Key: "a", Value: ""}}
		require.NoError(t, p.PutAsync(t.Context(), shardlog.Record{PartitionKey: "k", Data: []byte("1"), Headers: headers}, nil))
		require.NoError(t, p.PutAsync(t.Context(), shardlog.Record{PartitionKey: "other", ExplicitHashKey: hash, Data: []byte("2")}, nil))
		require.NoError(t, p.Flush(t.Context()))
		got := c.records()
		require.Len(t, got, 1)
		assert.Equal(t, headers, got[0].users[0].Headers)
		assert.False(t, got[0].users[0].HashKey.IsSet())
		assert.Equal(t, hash, got[0].users[1].HashKey)
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

// Scenario 45, over a sink that refuses: an aggregate for the parent is refused
// before anything is written, divided, and sent to the children.
func TestScenario45SplitWhileAnAggregateIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(1, allCaps)
		p := newProducer(t, c, &producer.Options{Aggregation: aggregating, Linger: soon})
		putAll(t, p, numbered("key", 5), numbered("before", 5)) // the map is learned
		c.mu.Lock()
		c.split(c.open()[0])
		c.mu.Unlock()
		names := numbered("", 50)
		start := time.Now()
		o := putAll(t, p, numbered("key", 50), names)
		assert.Equal(t, start, time.Now(), "as soon as the map is known")
		assert.ElementsMatch(t, names, c.names()[5:], "exactly once")
		assert.Len(t, c.records(), 3, "one for each child, and the one from before")
		assert.Equal(t, 2, c.lists)
		for _, n := range names {
			require.NoError(t, o.err(t, n))
			res := o.res[n]
			assert.Equal(t, 2, res.Sends)
			require.ErrorIs(t, res.Attempts[0].Err, shardlog.ErrWrongShard)
			require.NoError(t, res.Attempts[1].Err)
		}
		assert.EqualValues(t, 50, p.Stats().Errors["wrong shard"])
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

// Scenarios 45 and 72, over a sink that cannot refuse: an aggregate that is
// stored where not all of it belongs is sent again whole, and none of it is
// reported as stored there.
func TestScenario45Scenario72SplitOverASinkThatCannotRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(1, shardlog.Capabilities{})
		p := newProducer(t, c, &producer.Options{Aggregation: aggregating, Linger: soon})
		putAll(t, p, []string{"key"}, []string{"before"})
		c.mu.Lock()
		c.split(c.open()[0])
		c.mu.Unlock()
		names := numbered("", 50)
		o := putAll(t, p, numbered("key", 50), names)
		assert.Subset(t, c.names(), names, "each is delivered at least once")
		for _, n := range names {
			require.NoError(t, o.err(t, n))
			res := o.res[n]
			s := c.at(shardlog.KeyHash("key" + n))
			assert.Equal(t, s.info.ID, res.ShardID, "reported where it belongs")
			assert.Equal(t, 2, res.Sends)
			require.ErrorIs(t, res.Attempts[0].Err, shardlog.ErrWrongShard)
		}
		// An aggregate that happens to be whole on the child is good as it is.
		lists := c.lists
		c.mu.Lock()
		child := c.at(shardlog.KeyHash("key1"))
		c.split(child)
		c.mu.Unlock()
		o = putAll(t, p, []string{"key1"}, []string{"whole1", "whole2"})
		assert.Equal(t, 1, o.res["whole1"].Sends)
		assert.Equal(t, lists+1, c.lists, "the answer tells that the map is old")
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

func TestMapIsNotKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(2, allCaps)
		c.listed = func(n int) error {
			if n < 3 {
				return errors.New("no list")
			}
			return nil
		}
		p := newProducer(t, c, &producer.Options{Aggregation: aggregating, Linger: time.Millisecond})
		names := numbered("", 10)
		putAll(t, p, numbered("key", 10), names)
		assert.Equal(t, names, c.names(), "records go alone then")
		assert.Len(t, c.records(), 10)
		putAll(t, p, numbered("key", 10), names)
		assert.Equal(t, 1, c.lists, "the sink is left alone for a second")
		for i := 2; i <= 4; i++ { // pauses of 1, 1.5 and 2.25 s
			time.Sleep(2500 * time.Millisecond)
			putAll(t, p, numbered("key", 10), names)
			assert.Equal(t, i, c.lists)
		}
		assert.Len(t, c.records(), 10*4+2)
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

func TestMapThatMakesNoSense(t *testing.T) {
	key := func(hi uint64) shardlog.HashKey { return shardlog.NewHashKey(hi, 0) }
	prev := func(hi uint64) shardlog.HashKey { k, _ := key(hi).Prev(); return k }
	for name, infos := range map[string][]shardlog.ShardInfo{
		"none":       {},
		"all closed": {{ID: "a", HashStart: key(0), HashEnd: shardlog.MaxHashKey, Closed: true}},
		"gap":        {{ID: "a", HashStart: key(0), HashEnd: prev(5)}, {ID: "b", HashStart: key(6), HashEnd: shardlog.MaxHashKey}},
		"overlap":    {{ID: "a", HashStart: key(0), HashEnd: prev(5)}, {ID: "b", HashStart: key(4), HashEnd: shardlog.MaxHashKey}},
		"no end":     {{ID: "a", HashStart: key(0), HashEnd: prev(5)}},
		"no start":   {{ID: "a", HashStart: key(5), HashEnd: shardlog.MaxHashKey}},
		"backwards":  {{ID: "a", HashStart: key(0), HashEnd: prev(5)}, {ID: "b", HashStart: key(5), HashEnd: key(4)}},
		"unset":      {{ID: "a"}},
		"two of all": {{ID: "a", HashStart: key(0), HashEnd: shardlog.MaxHashKey}, {ID: "b", HashStart: key(0), HashEnd: shardlog.MaxHashKey}},
	} {
		synctest.Test(t, func(t *testing.T) {
			sink := &listing{fakeSink: fakeSink{}, list: func() []shardlog.ShardInfo { return infos }}
			calls := 0
			p := newProducer(t, sink, &producer.Options{Aggregation: aggregating, OnShards: func(open int, err error) {
				calls++
				assert.Zero(t, open, name)
				assert.Error(t, err, name)
			}})
			putAll(t, p, []string{"k"}, []string{"a", "b"})
			assert.Equal(t, []string{"a", "b"}, sink.names(), name)
			assert.Equal(t, 1, calls, name)
			require.NoError(t, p.Shutdown(t.Context()))
		})
	}
}

// listing is a fakeSink with shards; list may panic or exit.
type listing struct {
	fakeSink
	list func() []shardlog.ShardInfo
}

func (s *listing) Shards(context.Context) ([]shardlog.ShardInfo, error) { return s.list(), nil }

func TestListingPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, list := range []func() []shardlog.ShardInfo{
			func() []shardlog.ShardInfo { panic("list") },
			func() []shardlog.ShardInfo { exit(); return nil },
		} {
			sink := &listing{list: list}
			p := newProducer(t, sink, &producer.Options{Aggregation: aggregating})
			putAll(t, p, []string{"k"}, []string{"a", "b"})
			assert.Equal(t, []string{"a", "b"}, sink.names())
			require.NoError(t, p.Shutdown(t.Context()))
			requireNoGoroutines(t)
		}
	})
}

// An aggregate with a record that the sink refuses is divided, so that only this
// record fails.
func TestPoisonInAnAggregate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, whole := range []bool{false, true} {
			bad := &shardlog.InvalidError{Field: "Data", Limit: "harmless"}
			poisoned := func(r *shardlog.Record) bool { return strings.Contains(string(r.Data), "poison") }
			c := newCluster(1, allCaps)
			if whole {
				c.script = func(_ context.Context, _ int, req *shardlog.PutRequest) (bool, error) {
					for i := range req.Records {
						if poisoned(&req.Records[i]) {
							return false, bad
						}
					}
					return false, nil
				}
			} else {
				c.refuse = func(_, _ int, r *shardlog.Record, _ string) error {
					if poisoned(r) {
						return bad
					}
					return nil
				}
			}
			p := newProducer(t, c, &producer.Options{Aggregation: aggregating, Linger: soon})
			names := append(numbered("", 20), "poison")
			o := putAll(t, p, numbered("key", 21), names)
			require.ErrorIs(t, o.err(t, "poison"), shardlog.ErrInvalid)
			assert.ElementsMatch(t, names[:20], c.names())
			for _, n := range names[:20] {
				require.NoError(t, o.err(t, n))
			}
			require.NoError(t, p.Shutdown(t.Context()))
		}
	})
}

// With OrderStrict a key may be in an aggregate more than once, because that is
// stored whole, but not in two of them.
func TestStrictOrderInAggregates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(1, allCaps)
		p := newProducer(t, c, &producer.Options{
			Aggregation: producer.Aggregation{Enabled: true, MaxCount: 4}, Order: producer.OrderStrict, Linger: soon,
		})
		names := numbered("", 10)
		putAll(t, p, []string{"k"}, names)
		assert.Equal(t, [][]int{{4}, {4}, {2}}, c.sizes())
		assert.Equal(t, names, c.names())
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

// Scenario 76, on the way through the producer: the golden vector.
func TestScenario76GoldenAggregate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(1, allCaps)
		p := newProducer(t, c, &producer.Options{Aggregation: aggregating, Linger: soon})
		for _, r := range []shardlog.Record{
			rec("alice", "one"), rec("bob", "two"),
			{PartitionKey: "alice", ExplicitHashKey: shardlog.NewHashKey(1<<63, 0)}, rec("κλειδί", kpl.Magic),
		} {
			require.NoError(t, p.PutAsync(t.Context(), r, nil))
		}
		require.NoError(t, p.Flush(t.Context()))
		got := c.records()
		require.Len(t, got, 1)
		assert.Equal(t, "f3899ac20a05616c6963650a03626f620a0ccebacebbceb5ceb9ceb4ceaf1227313730313431313833343630343639323331373331363837333033373135383834313035373238"+
			"1a0708001a036f6e651a0708011a0374776f1a06080010001a001a0808021a04f3899ac20f9ccb3b55a8c064191d48682d67ab84", fmt.Sprintf("%x", got[0].rec.Data))
		assert.Equal(t, "alice", got[0].rec.PartitionKey)
		assert.Equal(t, "132283552702735894323332391932430538300", got[0].rec.ExplicitHashKey.String())
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

// Scenario 47, the writer's part: as many records as fit are in one aggregate.
func TestScenario47ManyRecordsInOneAggregate(t *testing.T) {
	c := newCluster(1, allCaps)
	p := newProducer(t, c, &producer.Options{Aggregation: producer.Aggregation{Enabled: true, MaxSize: 10 << 20}, Linger: time.Hour, BufferRecords: 100_001})
	for range 100_000 {
		require.NoError(t, p.PutAsync(t.Context(), rec("k", "0123456789"), nil))
	}
	require.NoError(t, p.Flush(t.Context()))
	assert.Equal(t, [][]int{{100_000}}, c.sizes())
	require.NoError(t, p.Shutdown(t.Context()))
}
