package logstore

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

// A position in the future is before the first record that arrives then, not
// before the next one.
func TestAPositionInTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := Open(kvtest.New(kv.NewMemory()), Options{}, configs(1), Recovery{})
		require.NoError(t, err)
		defer func() { require.NoError(t, l.Close()) }()
		s := shardsOf(l, 1)[0]
		require.NoError(t, put(l, s, "old"))
		from := shardlog.AtTime(time.Now().Add(time.Hour))

		page := func(wait time.Duration) shardlog.Page {
			p, err := s.Read(t.Context(), shardlog.ReadRequest{From: from, Wait: wait})
			require.NoError(t, err)
			return p
		}
		p := page(0)
		require.Empty(t, p.Records)
		require.Equal(t, from, p.Next)
		require.False(t, p.End)
		for _, err := range s.Records(t.Context(), from) {
			require.NoError(t, err)
			t.Fatal("nothing has arrived at that time")
		}

		var tailed []string
		tail := make(chan struct{})
		go func() {
			defer close(tail)
			for r, err := range s.Tail(t.Context(), from) {
				if err != nil {
					return // closed
				}
				tailed = append(tailed, string(r.Data))
			}
		}()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.NoError(t, put(l, s, "too early"))
		start := time.Now()
		p = page(time.Minute)
		require.Empty(t, p.Records)
		require.Equal(t, from, p.Next)
		require.Equal(t, time.Minute, time.Since(start), "a record that is too early ends no wait")

		go func() {
			time.Sleep(2 * time.Hour)
			_ = put(l, s, "late")
		}()
		p = page(3 * time.Hour)
		require.Len(t, p.Records, 1)
		require.Equal(t, "late", string(p.Records[0].Data))
		synctest.Wait()
		require.NoError(t, l.Close())
		<-tail
		require.Equal(t, []string{"late"}, tailed)
	})
}
