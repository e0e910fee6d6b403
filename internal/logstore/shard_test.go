package logstore

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

func TestManyWritersKeepTheirOrder(t *testing.T) {
	l, err := Open(kvtest.New(kv.NewMemory()), Options{}, configs(3), Recovery{})
	require.NoError(t, err)
	ss := shardsOf(l, 3)
	const writers, each = 16, 300
	var wg sync.WaitGroup
	for w := range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range each {
				if err := put(l, ss[w%3], fmt.Sprintf("%d:%d", w, i)); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	wg.Wait()
	next := map[string]int{}
	n := 0
	for _, s := range ss {
		for _, d := range contents(t, s) {
			w, i, _ := strings.Cut(d, ":")
			require.Equal(t, fmt.Sprint(next[w]), i, "the order of writer %s", w)
			next[w]++
			n++
		}
	}
	require.Equal(t, writers*each, n)
	require.NoError(t, l.Close())
}

func TestOneCommitServesAllWhoWait(t *testing.T) {
	gate := &gated{Store: synced(), enter: make(chan struct{}), leave: make(chan error)}
	l, err := Open(gate, Options{}, configs(1), Recovery{})
	require.NoError(t, err)
	s := l.Shard(ID{1, 0})
	var wg sync.WaitGroup
	write := func(d string) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := put(l, s, d); err != nil {
				t.Error(err)
			}
		}()
	}
	write("first")
	<-gate.enter
	const waiting = 100
	for i := range waiting {
		write(fmt.Sprint(i))
	}
	for calls := 0; calls < waiting; {
		l.mu.Lock()
		calls = l.open.calls
		l.mu.Unlock()
	}
	gate.leave <- nil
	<-gate.enter
	gate.leave <- nil
	wg.Wait()
	require.Len(t, contents(t, s), waiting+1)
	require.NoError(t, l.Close())
}

func TestSmallWritesGatherInTheJournalAndBecomeBlocks(t *testing.T) {
	store := kvtest.New(kv.NewMemory())
	l, ss := openOn(t, store, 2, Options{})
	want := numbers(0, 3000, 100)
	for _, d := range want {
		require.NoError(t, put(l, ss[0], d))
		require.NoError(t, l.settle())
	}
	blocks := len(blockKeys(t, store))
	require.InDelta(t, 3000*110/flushBytes, blocks, 2, "blocks of a decent size")
	require.Less(t, len(store.Entries()), 1500, "the journal gives back what is in blocks")
	require.Equal(t, want, contents(t, ss[0]))

	again, as := openOn(t, store, 2, Options{})
	require.Equal(t, want, contents(t, as[0]), "after a crash")
	require.NoError(t, put(again, as[0], "more"))
	require.Equal(t, append(want, "more"), contents(t, as[0]))
}

func TestTheJournalIsBounded(t *testing.T) {
	store := kvtest.New(kv.NewMemory())
	const shards = 50
	l, ss := openOn(t, store, shards, Options{})
	var wg sync.WaitGroup
	for w := range shards {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 400 {
				if err := put(l, ss[w], fmt.Sprintf("%d:%d", w, i)); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	wg.Wait()
	_, as := openOn(t, store, shards, Options{})
	for w := range shards {
		got := contents(t, as[w])
		require.Equal(t, contents(t, ss[w]), got)
		require.Equal(t, fmt.Sprintf("%d:399", w), got[399])
	}
}

func TestNumbersAreNeverUsedTwice(t *testing.T) {
	store := kvtest.New(kv.NewMemory())
	var last shardlog.SequenceNumber
	for round := range 6 {
		l, err := Open(&faulty{Store: store, failAt: -1, keepOpen: true}, Options{}, configs(1), Recovery{Unsynced: round%2 == 1})
		require.NoError(t, err)
		s := l.Shard(ID{1, 0})
		require.NoError(t, put(l, s, numbers(0, 10, 1+1000*(round%3))...))
		for r, err := range s.Records(ctx, shardlog.After(last)) {
			if !last.IsSet() {
				break
			}
			require.NoError(t, err)
			require.Positive(t, r.Sequence.Compare(last))
		}
		require.Positive(t, s.Info().Last.Compare(last))
		last = s.Info().Last
		require.NoError(t, s.Trim(ctx, counterOf(last)+1))
		require.True(t, s.Info().Empty)
		require.NoError(t, l.Close())
	}
}

func TestPositions(t *testing.T) {
	l, ss := openOn(t, kvtest.New(kv.NewMemory()), 1, Options{})
	s := ss[0]
	require.NoError(t, put(l, s, "a", "b", "\xf3\x89\x9a\xc2aggregate", "d"))
	page, err := s.Read(ctx, shardlog.ReadRequest{})
	require.NoError(t, err)
	require.Len(t, page.Records, 4)
	seq := func(i int) shardlog.SequenceNumber { return page.Records[i].Sequence }
	for name, c := range map[string]struct {
		from shardlog.Position
		want int // index of the first record
	}{
		"trim horizon":                 {shardlog.TrimHorizon(), 0},
		"latest":                       {shardlog.Latest(), 4},
		"at":                           {shardlog.At(seq(1)), 1},
		"at the shard's first number":  {shardlog.At(s.Info().First), 0},
		"after":                        {shardlog.After(seq(1)), 2},
		"after the last":               {shardlog.After(seq(3)), 4},
		"inside a plain record":        {shardlog.AfterSub(seq(1), 0), 2},
		"inside an aggregate":          {shardlog.AfterSub(seq(2), 3), 2},
		"a time before":                {shardlog.AtTime(page.Records[0].Arrival.Add(-time.Hour)), 0},
		"the time":                     {shardlog.AtTime(page.Records[0].Arrival), 0},
		"a nanosecond after the time":  {shardlog.AtTime(page.Records[3].Arrival.Add(1)), 4},
		"a time to come":               {shardlog.AtTime(time.Now().Add(time.Hour)), 4},
		"a number that is still to be": {shardlog.At(s.sequence(counterOf(seq(3))+100, 0)), 4},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := s.Read(ctx, shardlog.ReadRequest{From: c.from})
			require.NoError(t, err)
			require.Len(t, p.Records, 4-c.want)
			n := 0
			for r, err := range s.Records(ctx, c.from) {
				require.NoError(t, err)
				require.Equal(t, page.Records[c.want+n].Data, r.Data)
				n++
			}
			require.Equal(t, 4-c.want, n)
		})
	}
	var invalid *shardlog.InvalidError
	_, err = s.Read(ctx, shardlog.ReadRequest{From: shardlog.At(shardlog.NewSequenceNumber(1000, 7, 9, 0))})
	require.ErrorAs(t, err, &invalid)
	_, err = s.Read(ctx, shardlog.ReadRequest{From: shardlog.At(shardlog.NewSequenceNumber(999, 0, 9, 0))})
	require.ErrorAs(t, err, &invalid, "another stream of the same name")

	require.NoError(t, s.Trim(ctx, counterOf(seq(3))+1))
	require.NoError(t, put(l, s, numbers(0, 100, 1000)...))
	var trimmed *shardlog.TrimmedError
	_, err = s.Read(ctx, shardlog.ReadRequest{From: shardlog.After(seq(0))})
	require.ErrorAs(t, err, &trimmed)
	require.EqualValues(t, 3, trimmed.Missed)
	_, err = s.Read(ctx, shardlog.ReadRequest{From: shardlog.After(seq(3))})
	require.NoError(t, err, "nothing was missed")
}

func TestPagesAndLag(t *testing.T) {
	l, ss := openOn(t, kvtest.New(kv.NewMemory()), 1, Options{TailBytes: 1})
	s := ss[0]
	want := numbers(0, 1000, 300)
	for i := 0; i < len(want); i += 100 {
		require.NoError(t, put(l, s, want[i:i+100]...))
	}
	var got []string
	from := shardlog.TrimHorizon()
	for {
		p, err := s.Read(ctx, shardlog.ReadRequest{From: from, MaxRecords: 37, MaxBytes: 5000})
		require.NoError(t, err)
		if len(p.Records) == 0 {
			require.Zero(t, p.BehindRecords)
			require.Zero(t, p.Behind)
			break
		}
		require.LessOrEqual(t, len(p.Records), 16, "5,000 bytes are 16 records")
		for _, r := range p.Records {
			got = append(got, string(r.Data))
			r.Data[0] = '!' // the page is the reader's own
		}
		require.EqualValues(t, 1000-len(got), p.BehindRecords)
		from = p.Next
	}
	require.Equal(t, want, got)
	require.Equal(t, want, contents(t, s))
	p, err := s.Read(ctx, shardlog.ReadRequest{MaxBytes: 1})
	require.NoError(t, err)
	require.Len(t, p.Records, 1, "one record, however large")
}

func TestRecordsOfEverySize(t *testing.T) {
	store := kvtest.New(kv.NewMemory())
	l, ss := openOn(t, store, 1, Options{})
	sizes := []int{0, 1, 1 << 20, 10 << 20, 0, 5 << 20, 300 << 10, 17}
	rs, ts := make([]shardlog.Record, len(sizes)), make([]*Shard, len(sizes))
	for i, n := range sizes {
		rs[i], ts[i] = shardlog.Record{PartitionKey: "k", Data: make([]byte, n)}, ss[0]
	}
	res := make([]shardlog.PutResult, len(sizes))
	require.NoError(t, l.Append(ctx, rs, ts, res))
	_, as := openOn(t, store, 1, Options{})
	for _, s := range []*Shard{ss[0], as[0]} {
		i := 0
		for r, err := range s.Records(ctx, shardlog.TrimHorizon()) {
			require.NoError(t, err)
			require.Len(t, r.Data, sizes[i])
			require.Equal(t, res[i].Sequence, r.Sequence)
			i++
		}
		require.Equal(t, len(sizes), i)
	}
}

func TestThousandsOfTailReaders(t *testing.T) {
	l, ss := openOn(t, kvtest.New(kv.NewMemory()), 1, Options{})
	const readers, records = 2000, 50
	var wg, ready sync.WaitGroup
	ready.Add(readers)
	for range readers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			ready.Done()
			n := 0
			for r, err := range ss[0].Tail(ctx, shardlog.TrimHorizon()) {
				if err != nil || string(r.Data) != fmt.Sprint(n) {
					t.Errorf("record %d: %q, %v", n, r.Data, err)
				}
				if n++; n == records {
					return
				}
			}
		}()
	}
	ready.Wait()
	for i := range records {
		require.NoError(t, put(l, ss[0], fmt.Sprint(i)))
	}
	wg.Wait()
}

func TestWaitingReadersEndWhenTheLogCloses(t *testing.T) {
	l, err := Open(kvtest.New(kv.NewMemory()), Options{}, configs(1), Recovery{})
	require.NoError(t, err)
	s := l.Shard(ID{1, 0})
	errs := make(chan error, 2)
	go func() {
		_, err := s.Read(ctx, shardlog.ReadRequest{Wait: time.Hour})
		errs <- err
	}()
	go func() {
		for _, err := range s.Tail(ctx, shardlog.Latest()) {
			errs <- err
		}
	}()
	for s.waiters.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	require.NoError(t, l.Close())
	require.ErrorIs(t, <-errs, shardlog.ErrClosed)
	require.ErrorIs(t, <-errs, shardlog.ErrClosed)
	require.ErrorIs(t, put(l, s, "x"), shardlog.ErrClosed)
	require.ErrorIs(t, s.Trim(ctx, 100), shardlog.ErrClosed)
	require.NoError(t, l.Close(), "twice")
}

func TestAClosedShardTakesNothingAndEnds(t *testing.T) {
	l, ss := openOn(t, kvtest.New(kv.NewMemory()), 1, Options{})
	require.NoError(t, put(l, ss[0], "a"))
	ended := make(chan int)
	go func() {
		n := 0
		for range ss[0].Tail(ctx, shardlog.TrimHorizon()) {
			n++
		}
		ended <- n
	}()
	created, err := l.Change(ctx, Change{Close: []*Shard{ss[0]}, Create: []Config{{ID: ID{1, 1}, Created: 1001}}})
	require.NoError(t, err)
	require.Equal(t, 1, <-ended)
	require.ErrorIs(t, put(l, ss[0], "b"), shardlog.ErrShardClosed)
	_, err = l.Change(ctx, Change{Close: []*Shard{ss[0]}})
	require.ErrorIs(t, err, shardlog.ErrShardClosed)
	require.NoError(t, put(l, created[0], "c"))
	p, err := ss[0].Read(ctx, shardlog.ReadRequest{Wait: time.Hour})
	require.NoError(t, err)
	require.True(t, p.End)
	require.Negative(t, ss[0].Info().Last.Compare(created[0].Info().Last))
}

func FuzzParseBlockKey(f *testing.F) {
	f.Add(blockKey(ID{1, 2}, &blockRef{first: 3, count: 4, firstMs: 5, lastMs: 6}))
	f.Fuzz(func(t *testing.T, k []byte) {
		id, e, ok := parseBlockKey(k)
		if ok {
			require.Equal(t, k, blockKey(id, &e))
			require.Greater(t, e.end(), e.first)
		}
		_, _ = parseHorizonKey(k)
		_, _ = parseSlotKey(k)
	})
}

func FuzzDecodeJournal(f *testing.F) {
	store := kvtest.New(kv.NewMemory())
	l, err := Open(store, Options{}, configs(1), Recovery{})
	require.NoError(f, err)
	require.NoError(f, put(l, l.Shard(ID{1, 0}), "a", "b"))
	require.NoError(f, l.Close())
	entry := store.Entries()[0]
	require.NoError(f, new(Slots).Values(entry, func(_, v []byte) error { f.Add(v); return nil }))
	f.Add(entry)
	f.Fuzz(func(t *testing.T, v []byte) {
		_, parts, _ := decodeSlot(v)
		more, _ := decodeEntry(v)
		for _, p := range append(parts, more...) {
			require.NotZero(t, p.b.Size())
		}
	})
}
