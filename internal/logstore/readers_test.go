package logstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

func TestLongPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, ss := openOn(t, kvtest.New(kv.NewMemory()), 1, Options{})
		s := ss[0]
		begun := time.Now()
		p, err := s.Read(ctx, shardlog.ReadRequest{Wait: 3 * time.Second})
		require.NoError(t, err)
		require.Empty(t, p.Records)
		require.Equal(t, 3*time.Second, time.Since(begun), "it times out")
		latest, err := s.Read(ctx, shardlog.ReadRequest{From: shardlog.Latest()})
		require.NoError(t, err)

		results := make(chan shardlog.Page)
		for _, from := range []shardlog.Position{shardlog.TrimHorizon(), shardlog.Latest(), latest.Next, p.Next, shardlog.AtTime(time.Now())} {
			go func() {
				p, err := s.Read(ctx, shardlog.ReadRequest{From: from, Wait: time.Hour})
				if err != nil {
					t.Error(err)
				}
				results <- p
			}()
		}
		synctest.Wait()
		time.Sleep(time.Minute)
		begun = time.Now()
		require.NoError(t, put(l, s, "a"))
		for range 5 {
			p := <-results
			require.Len(t, p.Records, 1)
			require.Equal(t, "a", string(p.Records[0].Data))
			require.True(t, p.Records[0].Arrival.Equal(begun))
		}
		require.Equal(t, begun, time.Now(), "woken at once")

		c, cancel := context.WithCancelCause(ctx)
		cause := errors.New("enough")
		done := make(chan error)
		go func() {
			_, err := s.Read(c, shardlog.ReadRequest{From: shardlog.Latest(), Wait: time.Hour})
			done <- err
		}()
		go func() {
			for _, err := range s.Tail(c, shardlog.Latest()) {
				done <- err
			}
		}()
		synctest.Wait()
		cancel(cause)
		require.ErrorIs(t, <-done, cause)
		require.ErrorIs(t, <-done, cause)
		_, err = s.Read(c, shardlog.ReadRequest{})
		require.ErrorIs(t, err, cause, "ended before")
		require.Equal(t, begun, time.Now())
	})
}

func TestPositionsAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := kvtest.New(kv.NewMemory())
		l, ss := openOn(t, store, 1, Options{TailBytes: 1})
		begun := time.Now()
		for i := range 60 { // in blocks and in the journal, one each 10 ms
			require.NoError(t, put(l, ss[0], numbers(i, i+1, 1+i%2*9000)...))
			time.Sleep(10 * time.Millisecond)
		}
		again, as := openOn(t, store, 1, Options{})
		for _, s := range []*Shard{ss[0], as[0]} {
			for i := range 60 {
				at := begun.Add(time.Duration(i) * 10 * time.Millisecond)
				for d, want := range map[time.Duration]int{
					-9 * time.Millisecond: i, -1: i, 0: i, 1: i + 1, 999 * time.Microsecond: i + 1, time.Millisecond: i + 1,
				} {
					p, err := s.Read(ctx, shardlog.ReadRequest{From: shardlog.AtTime(at.Add(d)), MaxRecords: 1})
					require.NoError(t, err)
					require.EqualValues(t, 60-want-len(p.Records), p.BehindRecords)
					if len(p.Records) > 0 {
						require.EqualValues(t, base+1+want, counterOf(p.Records[0].Sequence), "%v after record %d", d, i)
						require.Equal(t, time.Duration(59-want)*10*time.Millisecond, p.Behind)
					} else {
						require.Equal(t, 60, want)
					}
				}
			}
		}
		_ = again
	})
}

// What is delivered belongs to the reader: changing it must not reach others,
// neither through the newest records in memory nor through the cache.
func TestDeliveredRecordsArePrivate(t *testing.T) {
	spoil := func(r *shardlog.Record) { clear(r.Data); _ = append(r.Data, "over the end"...) }
	for name, o := range map[string]Options{"memory": {}, "cache": {TailBytes: 1}, "store": {TailBytes: 1, CacheBytes: 1}} {
		t.Run(name, func(t *testing.T) {
			store := kvtest.New(kv.NewMemory())
			l, ss := openOn(t, store, 1, o)
			want := append(numbers(0, 100, 500), "small", "ones")
			require.NoError(t, put(l, ss[0], want[:100]...))
			require.NoError(t, put(l, ss[0], want[100:]...))
			for range 3 {
				p, err := ss[0].Read(ctx, shardlog.ReadRequest{})
				require.NoError(t, err)
				require.Len(t, p.Records, len(want))
				for i := range p.Records {
					require.Equal(t, want[i], string(p.Records[i].Data))
					spoil(&p.Records[i])
				}
				i := 0
				var kept []shardlog.Record
				for r, err := range ss[0].Records(ctx, shardlog.TrimHorizon()) {
					require.NoError(t, err)
					require.Equal(t, want[i], string(r.Data))
					if i%2 == 0 {
						spoil(&r)
					} else {
						kept = append(kept, r)
					}
					i++
				}
				for i, r := range kept {
					require.Equal(t, want[2*i+1], string(r.Data), "it may be kept")
					require.Equal(t, "k", r.PartitionKey)
				}
			}
			require.NoError(t, store.CheckValues())
		})
	}
}

// Where a record is read from must not be seen.
func TestRecordsAreTheSameFromMemoryAndFromTheStore(t *testing.T) {
	rnd := kvtest.Rand(t)
	store := kvtest.New(kv.NewMemory())
	cs := configs(3)
	cs[1].Codec, cs[2].Codec = 1, 2
	big, err := Open(store, Options{TailBytes: 1 << 30}, cs, Recovery{})
	require.NoError(t, err)
	defer big.Close()
	for range 120 {
		n := 1 + rnd.Intn(30)
		size := []int{0, 10, 400, 5000}[rnd.Intn(4)]
		rs, res := make([]shardlog.Record, n), make([]shardlog.PutResult, n)
		for i := range rs {
			rs[i] = shardlog.Record{PartitionKey: fmt.Sprint("key", i), Data: make([]byte, rnd.Intn(size+1))}
			rnd.Read(rs[i].Data[:len(rs[i].Data)/2])
			switch rnd.Intn(4) {
			case 0:
				rs[i].ExplicitHashKey = shardlog.NewHashKey(0, 0)
			case 1:
				rs[i].Headers = []shardlog.Header{{Key: "a", Value: fmt.Sprint(i)}, {Key: "a"}}
			}
		}
		targets := make([]*Shard, n)
		for i := range targets {
			targets[i] = big.Shard(ID{1, uint32(rnd.Intn(3))})
		}
		require.NoError(t, big.Append(ctx, rs, targets, res))
	}
	rest(big)
	small, err := Open(store, Options{TailBytes: 1, CacheBytes: 1}, cs, Recovery{})
	require.NoError(t, err)
	defer small.Close()
	for i := range 3 {
		a, b := big.Shard(ID{1, uint32(i)}), small.Shard(ID{1, uint32(i)})
		var all []shardlog.Record
		for r, err := range a.Records(ctx, shardlog.TrimHorizon()) {
			require.NoError(t, err)
			all = append(all, r)
		}
		require.NotEmpty(t, all)
		for n := 0; n < len(all); n += 1 + rnd.Intn(20) {
			from := shardlog.At(all[n].Sequence)
			m := n
			for r, err := range b.Scan(ctx, from) {
				require.NoError(t, err)
				require.Equal(t, all[m], *r)
				m++
			}
			require.Equal(t, len(all), m)
			req := shardlog.ReadRequest{From: from, MaxRecords: 1 + rnd.Intn(40<<rnd.Intn(5)), MaxBytes: 1 + rnd.Intn(30000<<rnd.Intn(5))}
			pa, err := a.Read(ctx, req)
			require.NoError(t, err)
			pb, err := b.Read(ctx, req)
			require.NoError(t, err)
			require.Equal(t, pa, pb)
			require.Equal(t, all[n:n+len(pa.Records)], pa.Records)
		}
	}
}

// Readers, writers and retention at the same time: no reader sees damage, and
// none misses a record without an error.
func TestReadersDuringTrim(t *testing.T) {
	store := kvtest.New(kv.NewMemory())
	l, ss := openOn(t, store, 1, Options{TailBytes: 64 << 10, CacheBytes: 64 << 10})
	s := ss[0]
	const records = 3000
	var wg sync.WaitGroup
	for r := range 6 {
		wg.Go(func() {
			next, from := 0, shardlog.TrimHorizon()
			for next < records {
				var err error
				var trimmed *shardlog.TrimmedError
				if r%2 == 0 {
					var p shardlog.Page
					p, err = s.Read(ctx, shardlog.ReadRequest{From: from, MaxRecords: 50, Wait: time.Minute})
					for i := range p.Records {
						next = checkNext(t, next, &p.Records[i])
					}
					if err == nil {
						from = p.Next
					}
				} else {
					for rec, rerr := range s.Tail(ctx, from) {
						if err = rerr; err != nil {
							break
						}
						next, from = checkNext(t, next, &rec), shardlog.After(rec.Sequence)
						if next == records {
							break
						}
					}
				}
				if errors.As(err, &trimmed) {
					from = trimmed.Oldest
					next = -int(trimmed.Missed) - 1 // any, from now on
				} else if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range records / 10 {
		require.NoError(t, put(l, s, numbers(10*i, 10*i+10, 1+i%3*1000)...))
		if i%20 == 19 {
			require.NoError(t, s.Trim(ctx, uint64(max(0, base+1+10*i-500))))
		}
	}
	wg.Wait()
	require.NoError(t, store.CheckValues())
	require.Zero(t, store.Refused())
}

// A reader that waited at the tail learns, too, what retention took before it
// came to read: it gets, or is reported as missed, each record exactly once.
func TestRetentionThatOvertakesAWaitingReader(t *testing.T) {
	const rounds, each = 1000, 10
	l, ss := openOn(t, kvtest.New(kv.NewMemory()), 1, Options{})
	s := ss[0]
	total := uint64(rounds * each)
	var wg sync.WaitGroup
	for r := range 4 {
		wg.Go(func() {
			var got, missed uint64
			from, end := shardlog.At(s.sequence(s.base+1, 0)), false
			saw := func(rec *shardlog.Record) {
				got++
				end = counterOf(rec.Sequence) == s.base+total
			}
			for !end {
				var err error
				if r%2 == 0 {
					var p shardlog.Page
					p, err = s.Read(ctx, shardlog.ReadRequest{From: from, MaxRecords: 7, Wait: time.Minute})
					for i := range p.Records {
						saw(&p.Records[i])
					}
					if err == nil {
						from = p.Next
					}
				} else {
					for rec, rerr := range s.Tail(ctx, from) {
						if err = rerr; err != nil {
							break
						}
						saw(&rec)
						if from = shardlog.After(rec.Sequence); end {
							break
						}
					}
				}
				var trimmed *shardlog.TrimmedError
				if errors.As(err, &trimmed) {
					from = trimmed.Oldest
					missed += trimmed.Missed
				} else if err != nil {
					t.Error(err)
					return
				}
			}
			if got+missed != total {
				t.Errorf("reader %d got %d records and was told to have missed %d of %d", r, got, missed, total)
			}
		})
	}
	for i := range rounds {
		require.NoError(t, put(l, s, numbers(each*i, each*i+each, 1+i%3*1000)...))
		if i < rounds-1 { // the last record is where the readers end
			require.NoError(t, s.Trim(ctx, s.view().last+1))
		}
	}
	wg.Wait()
}

// checkNext returns the number that follows that of r; a negative next means
// that some were trimmed before it.
func checkNext(t *testing.T, next int, r *shardlog.Record) int {
	n, err := strconv.Atoi(string(r.Data))
	if err != nil || (next >= 0 && n != next && next != 0) {
		t.Errorf("record %d (%v) where %d is expected", n, err, next)
	}
	return n + 1
}

func TestNothingWorksAfterClose(t *testing.T) {
	l, err := Open(kv.NewMemory(), Options{}, configs(2), Recovery{})
	require.NoError(t, err)
	s := l.Shard(ID{1, 0})
	require.NoError(t, put(l, s, "a"))
	require.NoError(t, l.Close())
	_, oneErr := l.AppendOne(ctx, s, &shardlog.Record{PartitionKey: "k"})
	_, ifErr := l.AppendIf(ctx, s, s.Info().Last, []shardlog.Record{rec("b")})
	_, readErr := s.Read(ctx, shardlog.ReadRequest{})
	_, waitErr := s.Read(ctx, shardlog.ReadRequest{From: shardlog.Latest(), Wait: time.Hour})
	_, changeErr := l.Change(ctx, Change{Close: []*Shard{s}})
	_, reclaimErr := l.Reclaim()
	_, snapErr := l.Snapshot()
	_, getErr := l.Get([]byte("x"))
	var tailErr, recordsErr error
	for _, tailErr = range s.Tail(ctx, shardlog.TrimHorizon()) {
	}
	for _, recordsErr = range s.Records(ctx, shardlog.Latest()) {
	}
	_ = reclaimErr // memory has nothing to reclaim
	for i, err := range []error{
		put(l, s, "b"), oneErr, ifErr, readErr, waitErr, changeErr, snapErr, getErr, tailErr, recordsErr,
		s.Trim(ctx, 1), l.Sync(), l.Drop(ctx, s, nil), l.Do(ctx, func(*Tx) error { return nil }),
		l.Scan(nil, func([]byte) bool { return true }),
	} {
		require.ErrorIs(t, err, shardlog.ErrClosed, "%d", i)
	}
}
