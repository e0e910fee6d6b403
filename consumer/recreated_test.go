package consumer_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/consumer"
	"github.com/shardlog/shardlog/stream"
)

var groupKey = checkpoint.Key{Group: "default", Stream: "orders/workers", Shard: "group"}

// lineage makes a source of the stream with the ID: shard 0, which was split
// into 1 and 2, with 3 records each.
func lineage(id string) *source {
	src := newSource(1)
	src.id = id
	src.put(0, 3)
	src.split(0)
	src.put(1, 3)
	src.put(2, 3)
	return src
}

// A row says which stream it is about, so whatever else it says, it is not
// taken for one of a stream that was created later under that name. All shards
// of the two have the same creation, hash keys and numbers here.
func TestRowsOfAnEarlierStreamAreAConflict(t *testing.T) {
	prepared := shardlog.After(seq(0, 1))
	for name, row := range map[string]checkpoint.Lease{
		"without a checkpoint":       {Key: rowKey(0)},
		"with a checkpoint":          {Key: rowKey(0), Checkpoint: shardlog.After(seq(0, 1))},
		"inside an aggregate":        {Key: rowKey(0), Checkpoint: shardlog.AfterSub(seq(0, 1), 3)},
		"at a time":                  {Key: rowKey(0), Checkpoint: shardlog.AtTime(time.Unix(1, 0))},
		"at the end of the shard":    {Key: rowKey(0), Checkpoint: shardlog.At(seq(0, 77))},
		"prepared":                   {Key: rowKey(0), Prepared: &prepared},
		"ended":                      {Key: rowKey(0), Checkpoint: shardlog.After(seq(0, 2)), Ended: true, Children: []string{shardID(1), shardID(2)}},
		"ended without a checkpoint": {Key: rowKey(0), Ended: true, Children: []string{shardID(1), shardID(2)}},
		"that waits for its parent":  {Key: rowKey(1), Parents: []string{shardID(0)}},
		"with an owner":              {Key: rowKey(2), Owner: "another", Epoch: 5},
		"with the same owner":        {Key: rowKey(2), Owner: "w", Epoch: 1},
		"asked for":                  {Key: rowKey(2), Owner: "another", Next: "w", Epoch: 5},
		"of a shard that is not now": {Key: rowKey(9), Checkpoint: shardlog.After(seq(9, 1))},
		"of a shard that has ended":  {Key: rowKey(9), Ended: true},
	} {
		for _, begun := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					src, st, k := lineage("2"), newStore(), &sink{}
					row.StreamID = "1"
					before, err := st.Memory.Create(context.Background(), row)
					require.NoError(t, err)
					if begun {
						_, err = st.Memory.Create(context.Background(), checkpoint.Lease{Key: groupKey, StreamID: "1", Ended: true})
						require.NoError(t, err)
					}
					r := start(t, src, k, consumer.Options{Store: st})
					err = r.result()
					require.ErrorIs(t, err, shardlog.ErrConflict)
					require.ErrorContains(t, err, "deleted and created again")
					assert.Empty(t, k.got())
					rows, err := st.Memory.List(context.Background(), "default", "orders")
					require.NoError(t, err)
					assert.Equal(t, []checkpoint.Lease{before}, rows, "nothing was written over it")

					// What is left to do, if all of the new stream is wanted.
					require.NoError(t, consumer.Forget(context.Background(), st, "default", "orders"))
					r = start(t, src, k, consumer.Options{Store: st})
					settle()
					r.stop()
					assert.ElementsMatch(t, append(append(names(0, 0, 3), names(1, 0, 3)...), names(2, 0, 3)...), k.got())
					for i := range 3 {
						assert.Equal(t, "2", st.row(t, i).StreamID)
					}
				})
			})
		}
	}
}

// Rows of versions that knew no IDs are read as before, and get the ID when
// their shard is taken; what cannot have been said of the shard is a conflict.
func TestRowsWithoutAStreamID(t *testing.T) {
	first, last := shardlog.NewHashKey(0, 0), shardlog.MaxHashKey
	for name, c := range map[string]struct {
		row  checkpoint.Lease
		want []string // nil for a conflict
	}{
		"without a checkpoint": {checkpoint.Lease{Key: rowKey(0)}, names(0, 0, 3)},
		"with a checkpoint":    {checkpoint.Lease{Key: rowKey(0), Checkpoint: shardlog.After(seq(0, 1)), HashStart: first, HashEnd: last}, names(0, 2, 3)},
		"ended":                {checkpoint.Lease{Key: rowKey(0), Ended: true}, nil},
		"other hash keys":      {checkpoint.Lease{Key: rowKey(0), HashStart: first, HashEnd: shardlog.NewHashKey(0, 9)}, nil},
		"another creation":     {checkpoint.Lease{Key: rowKey(0), Checkpoint: shardlog.After(shardlog.NewSequenceNumber(created(0)-1, 0, 2, created(0)))}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				src, st, k := newSource(1), newStore(), &sink{}
				src.id = "1"
				src.put(0, 3)
				_, err := st.Memory.Create(context.Background(), c.row)
				require.NoError(t, err)
				r := start(t, src, k, consumer.Options{Store: st})
				settle()
				if c.want == nil {
					require.ErrorIs(t, r.result(), shardlog.ErrConflict)
					assert.Empty(t, k.got())
					return
				}
				r.stop()
				assert.Equal(t, c.want, k.got())
				assert.Equal(t, "1", st.row(t, 0).StreamID)
			})
		})
	}
}

// The intention of an earlier stream's worker is one as well.
func TestPreparedPositionOfAnotherCreation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st := newSource(1), newStore()
		p := shardlog.After(shardlog.NewSequenceNumber(created(0)-1, 0, 2, created(0)))
		_, err := st.Memory.Create(context.Background(), checkpoint.Lease{Key: rowKey(0), Prepared: &p})
		require.NoError(t, err)
		require.ErrorIs(t, start(t, src, &sink{}, consumer.Options{Store: st}).result(), shardlog.ErrConflict)
	})
}

// A source that does not say which stream it is works with rows that do, and
// leaves what they say.
func TestSourceWithoutAStreamID(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		src.put(0, 3)
		_, err := st.Memory.Create(context.Background(), checkpoint.Lease{Key: rowKey(0), StreamID: "1", Checkpoint: shardlog.After(seq(0, 0))})
		require.NoError(t, err)
		r := start(t, src, k, consumer.Options{Store: st})
		settle()
		assert.Equal(t, names(0, 1, 3), k.got())
		src.becomes("1") // it knows now
		src.put(0, 1)
		time.Sleep(time.Minute)
		settle()
		assert.Equal(t, "1", st.row(t, 0).StreamID)
		r.stop()
		assert.Equal(t, names(0, 1, 4), k.got())
		src.becomes("2")
		require.ErrorIs(t, start(t, src, k, consumer.Options{Store: st}).result(), shardlog.ErrConflict)
	})
}

// The row of the group alone is no progress: the group begins with the new stream.
func TestGroupRowOfAnEarlierStream(t *testing.T) {
	for _, ended := range []bool{true, false} {
		bubble(t, func(t *testing.T) {
			src, st, k := lineage("2"), newStore(), &sink{}
			_, err := st.Memory.Create(context.Background(), checkpoint.Lease{Key: groupKey, StreamID: "1", Ended: ended, Checkpoint: shardlog.Latest()})
			require.NoError(t, err)
			// A worker of the earlier stream, which beats: it is not waited for,
			// and gets no share.
			l, err := st.Memory.Create(context.Background(), checkpoint.Lease{
				Key: checkpoint.Key{Group: "default", Stream: "orders/workers", Shard: "worker/a"}, StreamID: "1", Owner: "a", PreparedState: []byte("{}"),
			})
			require.NoError(t, err)
			stopped := make(chan struct{})
			go func() {
				for {
					select {
					case <-time.After(time.Second):
						l.Beat++
						l, _ = st.Memory.Update(context.Background(), l)
					case <-stopped:
						return
					}
				}
			}()
			r := start(t, src, k, consumer.Options{Store: st})
			settle()
			time.Sleep(time.Second) // children wait for their parent's row
			settle()
			assert.ElementsMatch(t, append(append(names(0, 0, 3), names(1, 0, 3)...), names(2, 0, 3)...), k.got())
			r.stop()
			close(stopped)
			row, err := st.Memory.Get(context.Background(), groupKey)
			require.NoError(t, err)
			assert.Equal(t, "2", row.StreamID)
		})
	}
}

// A source that finds its stream by name becomes another stream under a running
// consumer: at the tail, where nothing fails; and where a read fails, because
// positions mean nothing there or records before them are missing.
func TestStreamIsRecreatedUnderARunningConsumer(t *testing.T) {
	for name, fault := range map[string]error{
		"at the tail":      nil,
		"foreign position": &shardlog.InvalidError{Field: "Position", Value: "x", Limit: "a number of the shard"},
		"expired":          &shardlog.TrimmedError{From: shardlog.After(seq(0, 2)), Oldest: shardlog.At(seq(0, 4)), Missed: 1},
		"missing shard":    shardlog.ErrNotFound,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				src, st, k := newSource(1), newStore(), &sink{}
				src.id = "1"
				src.put(0, 3)
				asked := false
				r := start(t, src, k, consumer.Options{Store: st, OnTrimmed: func(string, *shardlog.TrimmedError) error {
					asked = true
					return nil
				}})
				settle()
				if fault != nil {
					src.readFault = func(shardlog.ReadRequest) error { return fault }
				}
				src.becomes("2")
				require.ErrorIs(t, r.result(), shardlog.ErrConflict)
				assert.Equal(t, names(0, 0, 3), k.got())
				assert.False(t, asked, "nothing of the group's stream has expired")
				assert.Equal(t, "1", st.row(t, 0).StreamID)
			})
		})
	}
}

// StreamID may fail for a time, or for ever.
func TestStreamIDFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		src.id = "1"
		src.put(0, 3)
		n := 0
		src.idFault = func() error {
			if n++; n < 4 {
				return errBroken
			}
			return nil
		}
		r := start(t, src, k, consumer.Options{Store: st})
		time.Sleep(time.Minute)
		settle()
		assert.Equal(t, names(0, 0, 3), k.got())
		r.stop()
		src.idFault = func() error { return shardlog.ErrNotFound }
		require.ErrorIs(t, start(t, src, k, consumer.Options{Store: st}).result(), shardlog.ErrNotFound)
	})
}

// A worker that another stream's has the ID of, and whose epoch is the same, has
// not the row of that one.
func TestRowIsReplacedUnderAWorkerByOneOfAnotherStream(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, g := newSource(1), newStore(), newGate()
		src.id = "1"
		src.put(0, 3)
		r := start(t, src, g, consumer.Options{Store: st})
		settle()
		old := st.row(t, 0)
		require.NoError(t, consumer.Forget(context.Background(), st.Memory, "default", "orders"))
		row, err := st.Memory.Create(context.Background(), checkpoint.Lease{Key: old.Key, StreamID: "2", Owner: old.Owner, Epoch: old.Epoch})
		require.NoError(t, err)
		close(g.first)
		require.ErrorIs(t, r.result(), shardlog.ErrConflict)
		now := st.row(t, 0)
		assert.Equal(t, row, now)
	})
}

// The same with the log: streams that are created at one instant, in which
// records get the same numbers, and all that an earlier stream can leave.
func TestStreamsOfOneNameAndInstant(t *testing.T) {
	ctx := context.Background()
	put := func(t *testing.T, st *stream.Stream, n int) {
		for range n {
			_, err := st.Put(ctx, shardlog.Record{PartitionKey: "k", Data: []byte("x")})
			require.NoError(t, err)
		}
	}
	for name, early := range map[string]func(*testing.T, *stream.Stream){
		"no records": func(*testing.T, *stream.Stream) {},
		"records":    func(t *testing.T, st *stream.Stream) { put(t, st, 20) },
		"split": func(t *testing.T, st *stream.Stream) {
			_, err := st.Split(ctx, shardID(0), shardlog.HashKey{})
			require.NoError(t, err)
		},
	} {
		for _, shards := range []int{1, 3} {
			t.Run(name, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					db, err := stream.Open("", &stream.Options{InMemory: true})
					require.NoError(t, err)
					defer db.Close()
					k := &sink{}
					st, err := db.Create(ctx, "orders", stream.Config{})
					require.NoError(t, err)
					early(t, st)
					r := start(t, st, k, consumer.Options{})
					settle()
					r.stop()
					before := len(k.got())
					require.NoError(t, db.Delete(ctx, "orders"))
					st, err = db.Create(ctx, "orders", stream.Config{Shards: shards})
					require.NoError(t, err)
					put(t, st, 10)
					err = start(t, st, k, consumer.Options{}).result()
					require.ErrorIs(t, err, shardlog.ErrConflict)
					assert.Len(t, k.got(), before)

					require.NoError(t, consumer.Forget(ctx, db.Checkpoints(), "default", "orders"))
					r = start(t, st, k, consumer.Options{})
					settle()
					r.stop()
					assert.Len(t, k.got(), before+10)
				})
			})
		}
	}
}

// nameless is a stream as a source that does not know which one it is.
type nameless struct{ st *stream.Stream }

func (s nameless) Name() string                        { return s.st.Name() }
func (s nameless) Capabilities() shardlog.Capabilities { return s.st.Capabilities() }

func (s nameless) Shards(ctx context.Context) ([]shardlog.ShardInfo, error) { return s.st.Shards(ctx) }

func (s nameless) Read(ctx context.Context, req shardlog.ReadRequest) (shardlog.Page, error) {
	return s.st.Read(ctx, req)
}

// A row that says that its shard has ended, with nothing read, is not believed
// when there is more to read, whether the source has an ID or not, and whether
// the store keeps it.
func TestEndedRowOfARecreatedStreamWithoutAnID(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		name      string
		hasID     bool
		forgetful bool
		workers   int
	}{
		{"source without an ID", false, false, 1}, {"store without IDs", true, true, 1}, {"neither", false, true, 1}, {"two workers", false, false, 2},
	} {
		for _, from := range []shardlog.Position{shardlog.TrimHorizon(), shardlog.AtTime(time.Unix(1, 0))} {
			t.Run(c.name, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					db, err := stream.Open("", &stream.Options{InMemory: true})
					require.NoError(t, err)
					defer db.Close()
					var store checkpoint.Store = newStore()
					if c.forgetful {
						store = idless{newStore()}
					}
					k := &sink{}
					run := func(st *stream.Stream) (all []*running) {
						var src shardlog.Source = nameless{st}
						if c.hasID {
							src = st
						}
						for i := range c.workers {
							all = append(all, start(t, src, k, consumer.Options{Store: store, Start: from, WorkerID: string(rune('a' + i))}))
						}
						time.Sleep(time.Minute)
						return all
					}
					st, err := db.Create(ctx, "orders", stream.Config{})
					require.NoError(t, err)
					_, err = st.Split(ctx, shardID(0), shardlog.HashKey{})
					require.NoError(t, err)
					for _, r := range run(st) {
						r.stop()
					}
					require.NoError(t, db.Delete(ctx, "orders"))
					st, err = db.Create(ctx, "orders", stream.Config{})
					require.NoError(t, err)
					_, err = st.Put(ctx, shardlog.Record{PartitionKey: "k"})
					require.NoError(t, err)
					for _, r := range run(st) {
						require.ErrorIs(t, r.result(), shardlog.ErrConflict)
					}
					assert.Empty(t, k.got())
				})
			})
		}
	}
}

// A source without an ID may list its shards as they were before: there a row
// that says more is no conflict.
func TestStaleListIsNoConflict(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k := newSource(1), newStore(), &sink{}
		src.put(0, 2)
		_, err := st.Memory.Create(context.Background(), checkpoint.Lease{Key: rowKey(0), Checkpoint: shardlog.After(seq(0, 1)), Ended: true, Children: []string{shardID(1)}})
		require.NoError(t, err)
		r := start(t, src, k, consumer.Options{Store: st})
		time.Sleep(time.Minute)
		src.put(src.add(0), 1)
		time.Sleep(time.Minute)
		settle()
		assert.Equal(t, names(1, 0, 1), k.got())
		r.stop()
	})
}

// idless keeps no StreamID, as a store of an earlier version.
type idless struct{ *store }

func (s idless) Create(ctx context.Context, l checkpoint.Lease) (checkpoint.Lease, error) {
	id := l.StreamID
	l.StreamID = ""
	l, err := s.store.Create(ctx, l)
	l.StreamID = id
	return l, err
}

func (s idless) Update(ctx context.Context, l checkpoint.Lease) (checkpoint.Lease, error) {
	id := l.StreamID
	l.StreamID = ""
	l, err := s.store.Update(ctx, l)
	l.StreamID = id
	return l, err
}

// Over such a store a shard is handed over like over any other.
func TestHandOverWithAStoreWithoutStreamIDs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, st, k, rec := newSource(2), newStore(), &sink{}, &recorder{}
		src.id = "1"
		src.put(0, 5)
		src.put(1, 5)
		o := consumer.Options{Store: idless{st}, CheckpointEvery: time.Minute, OnEvent: rec.note}
		o.WorkerID = "a"
		a := start(t, src, k, o)
		settle()
		o.WorkerID = "b"
		b := start(t, src, k, o)
		time.Sleep(5 * time.Second)
		settle()
		assert.Equal(t, map[string]int{"a": 1, "b": 1}, st.owners(t))
		a.stop()
		time.Sleep(time.Minute)
		b.stop()
		assert.Empty(t, rec.of(consumer.EventLeaseLost))
		assert.ElementsMatch(t, append(names(0, 0, 5), names(1, 0, 5)...), k.got())
	})
}

// A consumer that is running when its stream is deleted ends, whether there is
// another stream of that name by then or not, and delivers nothing of that.
func TestStreamIsDeletedUnderARunningConsumer(t *testing.T) {
	for _, again := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			ctx := context.Background()
			db, err := stream.Open("", &stream.Options{InMemory: true})
			require.NoError(t, err)
			defer db.Close()
			st, err := db.Create(ctx, "orders", stream.Config{Shards: 2})
			require.NoError(t, err)
			k := &sink{}
			r := start(t, st, k, consumer.Options{})
			settle()
			require.NoError(t, db.Delete(ctx, "orders"))
			if again {
				next, err := db.Create(ctx, "orders", stream.Config{Shards: 2})
				require.NoError(t, err)
				_, err = next.Put(ctx, shardlog.Record{PartitionKey: "k"})
				require.NoError(t, err)
			}
			require.ErrorIs(t, r.result(), shardlog.ErrNotFound)
			assert.Empty(t, k.got())
		})
	}
}

// Dead letters are for the stream that they were to go to.
func TestDeadLettersOfARecreatedStream(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		db, err := stream.Open("", &stream.Options{InMemory: true})
		require.NoError(t, err)
		defer db.Close()
		dead, err := db.Create(ctx, "dead", stream.Config{})
		require.NoError(t, err)
		require.NoError(t, db.Delete(ctx, "dead"))
		dead2, err := db.Create(ctx, "dead", stream.Config{})
		require.NoError(t, err)
		src := newSource(1)
		src.put(0, 1)
		st := newStore()
		h := consumer.HandlerFunc(func(context.Context, *consumer.Batch) error { return errBroken })
		r := start(t, src, h, consumer.Options{Store: st, MaxAttempts: 1, DeadLetter: consumer.DeadLettersTo(dead)})
		require.ErrorIs(t, r.result(), shardlog.ErrNotFound)
		assert.False(t, st.row(t, 0).Checkpoint.Sequence().IsSet(), "the record was not given up")
		page, err := dead2.Read(ctx, shardlog.ReadRequest{ShardID: shardID(0)})
		require.NoError(t, err)
		assert.Empty(t, page.Records)
	})
}

func TestForget(t *testing.T) {
	ctx := context.Background()
	st := newStore()
	require.ErrorIs(t, consumer.Forget(ctx, st, "default", ""), shardlog.ErrInvalid, "not those of all streams")
	require.NoError(t, consumer.Forget(ctx, st, "default", "orders"))
	for _, k := range []checkpoint.Key{rowKey(0), rowKey(1), groupKey, {Group: "other", Stream: "orders", Shard: "s"}, {Group: "default", Stream: "others", Shard: "s"}} {
		_, err := st.Create(ctx, checkpoint.Lease{Key: k})
		require.NoError(t, err)
	}
	st.breakDown(func() error { return errBroken })
	err := consumer.Forget(ctx, st, "default", "orders")
	require.ErrorIs(t, err, errBroken)
	var e *shardlog.Error
	require.True(t, errors.As(err, &e) && e.Op == "forget" && e.Stream == "orders")
	st.breakDown(nil)
	require.NoError(t, consumer.Forget(ctx, st, "", "orders"))
	for group, n := range map[string]int{"default": 1, "other": 1} {
		rows, err := st.List(ctx, group, "")
		require.NoError(t, err)
		assert.Len(t, rows, n)
	}
}

// A restored database has the streams of its backup, as far as a group is
// concerned that has its progress elsewhere: it continues, and misses nothing
// that is written from then on, although it has read more than was restored.
func TestGroupContinuesInARestoredStream(t *testing.T) {
	ctx := context.Background()
	first, second := t.TempDir(), t.TempDir()
	store := checkpoint.NewMemory()
	open := func(dir string) (*stream.DB, *stream.Stream) {
		db, err := stream.Open(dir, nil)
		require.NoError(t, err)
		st, err := db.Ensure(ctx, "orders", stream.Config{})
		require.NoError(t, err)
		return db, st
	}
	// deliver puts n records and waits until a group has them.
	deliver := func(st *stream.Stream, n int) {
		for range n {
			_, err := st.Put(ctx, shardlog.Record{PartitionKey: "k"})
			require.NoError(t, err)
		}
		got := make(chan struct{}, 100)
		c, err := consumer.New(st, &consumer.Options{Store: store, WorkerID: "w"})
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() {
			done <- c.Run(ctx, consumer.Each(func(context.Context, shardlog.Record) error {
				got <- struct{}{}
				return nil
			}))
		}()
		for range n {
			select {
			case <-got:
			case err := <-done:
				t.Fatalf("Run returned %v", err)
			}
		}
		require.NoError(t, c.Shutdown(ctx))
		require.NoError(t, <-done)
		require.Empty(t, got)
	}
	db, st := open(first)
	deliver(st, 5)
	var backup bytes.Buffer
	require.NoError(t, db.Backup(ctx, &backup))
	deliver(st, 5)
	require.NoError(t, db.Close())
	require.NoError(t, stream.Restore(ctx, second, &backup, nil))
	db, st = open(second)
	deliver(st, 3)
	require.NoError(t, db.Delete(ctx, "orders"))
	require.NoError(t, db.Close())

	// A database that was removed leaves nothing but the progress.
	third := t.TempDir()
	db, st = open(third)
	defer func() { require.NoError(t, db.Close()) }()
	c, err := consumer.New(st, &consumer.Options{Store: store, WorkerID: "w"})
	require.NoError(t, err)
	require.ErrorIs(t, c.Run(ctx, &sink{}), shardlog.ErrConflict)
}
