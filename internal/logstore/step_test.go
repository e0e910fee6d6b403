package logstore

import (
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/internal/kv"
)

// asking is a logger that asks the log for its figures, as one that exports them may.
type asking struct {
	slog.Handler
	ask func(message string)
}

func (a asking) Handle(_ context.Context, r slog.Record) error {
	a.ask(r.Message)
	return nil
}

// The log is not locked while its logger is called, with writers and with the committer that make records readable.
func TestALoggerThatCallsTheLog(t *testing.T) {
	for _, synced := range []bool{false, true} {
		var l *Log
		logged := make(chan string, 1)
		logger := slog.New(asking{slog.NewTextHandler(nil, nil), func(message string) {
			l.Usage()
			logged <- message
		}})
		l, ss := openOver(t, kv.NewMemory(), 1, Options{Logger: logger, CommitsSynced: synced})
		ahead := func(by int64) {
			l.mu.Lock()
			ss[0].lastMs += by
			l.mu.Unlock()
		}
		require.NoError(t, put(l, ss[0], "a"))
		ahead(1_800_000)
		require.NoError(t, put(l, ss[0], "b"))
		ahead(-1_800_000)
		require.NoError(t, put(l, ss[0], "c"))
		require.Contains(t, <-logged, "the clock has stepped back")
		require.NoError(t, l.Close())
	}
}
