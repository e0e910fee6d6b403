package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

// follower reads a stream along its lineage: the children of a shard once it
// was read to its end.
type follower struct {
	t  testing.TB
	st *Stream

	mu      sync.Mutex
	wg      sync.WaitGroup
	started map[string]bool
	ended   map[string]bool
	seen    map[string][]string // data of each key in the order read
	total   int
}

func follow(t testing.TB, st *Stream) *follower {
	f := &follower{t: t, st: st, started: map[string]bool{}, ended: map[string]bool{}, seen: map[string][]string{}}
	for _, s := range shards(t, st) {
		f.start(s.ID, s.Parents)
	}
	return f
}

func (f *follower) start(id string, parents []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range parents {
		if !f.ended[p] {
			return // the last parent to end starts it
		}
	}
	if !f.started[id] {
		f.started[id] = true
		f.wg.Go(func() { f.read(id) })
	}
}

func (f *follower) read(id string) {
	from := shardlog.TrimHorizon()
	for {
		p, err := f.st.Read(f.t.Context(), shardlog.ReadRequest{ShardID: id, From: from, MaxRecords: 50, Wait: time.Second})
		if errors.Is(err, context.Canceled) || errors.Is(err, shardlog.ErrClosed) {
			return
		}
		if err != nil {
			f.t.Errorf("reading %s: %v", id, err)
			return
		}
		f.mu.Lock()
		for i := range p.Records {
			k := p.Records[i].PartitionKey
			f.seen[k] = append(f.seen[k], string(p.Records[i].Data))
			f.total++
		}
		stop := f.seen["stop"] != nil && !p.End && len(p.Records) == 0
		f.mu.Unlock()
		from = p.Next
		if p.End {
			f.end(id, p.Children)
			return
		}
		if stop {
			return
		}
	}
}

func (f *follower) end(id string, children []string) {
	f.mu.Lock()
	f.ended[id] = true
	f.mu.Unlock()
	if len(children) == 0 {
		f.t.Errorf("%s has ended without children", id)
	}
	infos := shards(f.t, f.st)
	for _, c := range children {
		i := slices.IndexFunc(infos, func(s shardlog.ShardInfo) bool { return s.ID == c })
		if i < 0 {
			f.t.Errorf("%s, a child of %s, is not listed", c, id)
			continue
		}
		f.start(c, infos[i].Parents)
	}
}

func TestReshardingUnderLoadKeepsEveryRecordOnceAndInOrder(t *testing.T) {
	r, _ := newRand(t)
	for name, db := range map[string]*DB{"memory": openMem(t), "disk": openDB(t, t.TempDir(), &Options{Durability: SyncNever})} {
		t.Run(name, func(t *testing.T) {
			st := create(t, db, "s", Config{Shards: 2})
			f := follow(t, st)
			stop := make(chan struct{})
			var writers sync.WaitGroup
			counts := make([]int, 4)
			for w := range counts {
				writers.Go(func() {
					for n := 0; ; {
						select {
						case <-stop:
							counts[w] = n
							return
						default:
						}
						recs := make([]shardlog.Record, 1+n%7)
						for i := range recs {
							recs[i] = shardlog.Record{PartitionKey: fmt.Sprintf("writer %d", w), Data: fmt.Append(nil, n+i)}
							if i%2 == 1 {
								recs[i].PartitionKey += " odd"
							}
						}
						res, err := st.PutRecords(t.Context(), recs)
						if err != nil {
							t.Error(err)
							return
						}
						for i := range res {
							if res[i].Err != nil {
								t.Error(res[i].Err)
							}
						}
						n += len(recs)
					}
				})
			}
			for range 30 {
				open := openShards(t, st)
				slices.SortFunc(open, func(a, b shardlog.ShardInfo) int { return a.HashStart.Compare(b.HashStart) })
				var err error
				if i := r.Intn(len(open)); len(open) > 1 && r.Intn(2) == 0 {
					i = r.Intn(len(open) - 1)
					_, err = st.Merge(t.Context(), open[i].ID, open[i+1].ID)
				} else {
					_, err = st.Split(t.Context(), open[i].ID, shardlog.HashKey{})
				}
				require.NoError(t, err)
				requireCovered(t, shards(t, st))
			}
			close(stop)
			writers.Wait()
			put(t, st, "stop", "")
			f.wg.Wait()
			total := 0
			for w, n := range counts {
				total += n
				merged := append(slices.Clone(f.seen[fmt.Sprintf("writer %d", w)]), f.seen[fmt.Sprintf("writer %d odd", w)]...)
				require.Len(t, merged, n)
				for _, key := range []string{fmt.Sprintf("writer %d", w), fmt.Sprintf("writer %d odd", w)} {
					last := -1
					for _, s := range f.seen[key] {
						var i int
						_, err := fmt.Sscan(s, &i)
						require.NoError(t, err)
						require.Greater(t, i, last)
						last = i
					}
				}
			}
			require.Equal(t, total+1, f.total)
			for _, s := range shards(t, st) {
				if !s.Closed {
					continue
				}
				p, err := st.Read(t.Context(), shardlog.ReadRequest{ShardID: s.ID, From: shardlog.After(s.Last)})
				require.NoError(t, err)
				require.True(t, p.End)
				require.NotEmpty(t, p.Children)
			}
		})
	}
}

// A reader that waits at the end of a shard sees the children immediately when the
// shard is closed.
func TestEndOfAShardComesWithItsChildren(t *testing.T) {
	st := create(t, openMem(t), "s", Config{})
	for range 200 {
		id := openShards(t, st)[0].ID
		pages := make(chan shardlog.Page, 4)
		for range cap(pages) {
			go func() {
				for {
					p, err := st.Read(context.Background(), shardlog.ReadRequest{ShardID: id})
					if err != nil || p.End {
						pages <- p
						return
					}
				}
			}()
		}
		_, err := st.Split(t.Context(), id, shardlog.HashKey{})
		require.NoError(t, err)
		for range cap(pages) {
			require.Len(t, (<-pages).Children, 2)
		}
		open := openShards(t, st)
		_, err = st.Merge(t.Context(), open[0].ID, open[1].ID)
		require.NoError(t, err)
	}
}

func TestDeletionRacesWithReadersAndWriters(t *testing.T) {
	for name, db := range map[string]*DB{"memory": openMem(t), "disk": openDB(t, t.TempDir(), &Options{Durability: SyncNever})} {
		t.Run(name, func(t *testing.T) {
			for round := range 8 {
				st := create(t, db, "s", Config{Shards: 2})
				keep := create(t, db, fmt.Sprint("keep", round), Config{})
				var wg sync.WaitGroup
				fails := make(chan error, 100)
				loop := func(f func() error) {
					wg.Go(func() {
						for {
							if err := f(); err != nil {
								fails <- err
								return
							}
						}
					})
				}
				for i := range 2 {
					loop(func() error {
						_, err := st.Put(t.Context(), shardlog.Record{PartitionKey: fmt.Sprint(i), Data: make([]byte, 5000)})
						return err
					})
					loop(func() error {
						_, err := st.Read(t.Context(), shardlog.ReadRequest{ShardID: shardID(i), Wait: time.Minute, From: shardlog.Latest()})
						if errors.Is(err, shardlog.ErrExpired) {
							return nil // retention was faster than the wait
						}
						return err
					})
					loop(func() error {
						_, err := st.Read(t.Context(), shardlog.ReadRequest{ShardID: shardID(i)})
						return err
					})
					loop(func() error {
						for _, err := range st.Tail(t.Context(), shardID(i), shardlog.TrimHorizon()) {
							if errors.Is(err, shardlog.ErrExpired) {
								return nil // retention was faster; begin again
							}
							if err != nil {
								return err
							}
						}
						return nil
					})
				}
				loop(func() error { return st.SetTags(t.Context(), map[string]string{"a": "b"}) })
				loop(func() error { return st.SetRetention(t.Context(), time.Hour, 1<<20) })
				put(t, keep, "a", "x")
				for range 20 * round {
					put(t, st, "x", "y")
				}
				require.NoError(t, db.Delete(t.Context(), "s"))
				wg.Wait()
				close(fails)
				for err := range fails {
					require.ErrorIs(t, err, shardlog.ErrNotFound)
				}
				require.Len(t, readAll(t, keep, shardID(0)), 1)
			}
		})
	}
}

func TestSplitAndMergeRaceWithEachOther(t *testing.T) {
	st := create(t, openMem(t), "s", Config{Shards: 4})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 8 {
				open := openShards(t, st)
				s := open[(i+j)%len(open)]
				_, err := st.Split(t.Context(), s.ID, shardlog.HashKey{})
				if err == nil {
					put(t, st, fmt.Sprint(i, j), "x")
				} else if !errors.Is(err, shardlog.ErrShardClosed) {
					t.Error(err)
				}
				if err := st.Reshard(t.Context(), 1+(i+j)%6); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	requireCovered(t, shards(t, st))
	seen := map[string]bool{}
	for _, r := range readStream(t, st) {
		require.False(t, seen[r.PartitionKey])
		seen[r.PartitionKey] = true
	}
}

// Each generation has numbers of a later second than the one before, but shards
// say when they were really created.
func TestCreationOfShardsIsNotMadeUp(t *testing.T) {
	store := newSurviving()
	clockAt(t, year, func(t *testing.T) {
		check := func(st *Stream, at time.Time) {
			infos, err := st.Shards(t.Context())
			require.NoError(t, err)
			requireCovered(t, infos)
			require.Len(t, infos, 31)
			for _, s := range infos {
				require.True(t, s.Created.Equal(at), "%s was created at %v", s.ID, s.Created)
			}
			second, _ := infos[30].First.Created()
			require.Equal(t, at.Unix()+20, second.Unix(), "and the last generation has the numbers of 20 s later")
		}
		var began time.Time
		clocked(t, store, Config{Shards: 1}, nil, func(st *Stream) {
			began = time.Now().Truncate(time.Millisecond)
			for range 10 {
				require.NoError(t, st.Reshard(t.Context(), 2))
				require.NoError(t, st.Reshard(t.Context(), 1))
			}
			check(st, began)
		})
		clocked(t, store, Config{Shards: 1}, nil, func(st *Stream) { check(st, began) })
	})
}
