package stream

import (
	"context"
	"errors"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
)

// slowPublish is a store whose commits return late: what they changed can be
// read before the log continues.
type slowPublish struct {
	*surviving
	committed func()
}

func (s *slowPublish) Commit(b *kv.Batch) error {
	err := s.surviving.Commit(b)
	s.committed()
	return err
}

// A block that retention has removed from the store, and whose removal is not
// known to readers yet, is not a damaged one.
func TestRetentionDoesNotLookLikeDamageToReaders(t *testing.T) {
	for name, read := range map[string]func(st *Stream, from shardlog.Position) error{
		"pages": func(st *Stream, from shardlog.Position) error {
			_, err := st.Read(context.Background(), shardlog.ReadRequest{ShardID: shardID(0), From: from, MaxRecords: 1})
			return err
		},
		"iterators": func(st *Stream, from shardlog.Position) error {
			for _, err := range st.Records(context.Background(), shardID(0), from) {
				return err
			}
			return errors.New("no record")
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := &slowPublish{surviving: newSurviving(), committed: func() {}}
			opts, err := (&Options{TailBytes: 1, CacheBytes: 1}).withDefaults("dir")
			require.NoError(t, err)
			db, err := openOn(store, opts)
			require.NoError(t, err)
			defer func() { require.NoError(t, db.Close()) }()
			st := create(t, db, "s", Config{})
			var first shardlog.SequenceNumber
			for i := range 20 {
				res, err := st.Put(t.Context(), shardlog.Record{PartitionKey: "k", Data: make([]byte, 20<<10)})
				require.NoError(t, err)
				if i == 0 {
					first = res.Sequence
				}
			}
			// The reader runs between the commit of the trim and its return.
			got := make(chan error, 1)
			started := false
			store.committed = func() {
				if _, err := store.Get([]byte("h" + string([]byte{0, 0, 0, 1, 0, 0, 0, 0}))); err == nil && !started {
					started = true
					reading := make(chan struct{})
					go func() {
						close(reading)
						got <- read(st, shardlog.At(first))
					}()
					<-reading
					for range 100_000 {
						select {
						case err := <-got: // answered from what is not published yet
							got <- err
							return
						default:
							runtime.Gosched()
						}
					}
				}
			}
			require.NoError(t, st.SetRetention(t.Context(), Forever, MinRetentionBytes))
			require.ErrorIs(t, <-got, shardlog.ErrExpired)
		})
	}
}
