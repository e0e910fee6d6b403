package kinesisapi

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/internal/awswire"
	"github.com/shardlog/shardlog/stream"
)

// Handlers that are opened at the same time on a new database seal with the
// same key: each opens what the others have sealed.
func TestHandlersAtTheSameTimeShareAKey(t *testing.T) {
	for range 10 {
		db, err := stream.Open("", &stream.Options{InMemory: true})
		require.NoError(t, err)
		handlers := make([]*Handler, 8)
		var wg sync.WaitGroup
		begin := make(chan struct{})
		for i := range handlers {
			wg.Go(func() {
				<-begin
				handlers[i], _ = NewHandler(db, nil)
			})
		}
		close(begin)
		wg.Wait()
		for _, h := range handlers {
			require.NotNil(t, h)
		}
		clock := &awswire.Clock{}
		token := handlers[0].svc.tokens.sealPage(pageToken{kind: pageStreams, after: "s", made: clock.Moment()})
		for _, h := range handlers {
			_, err := h.svc.tokens.openPage(token, pageStreams, clock)
			require.NoError(t, err)
			require.NoError(t, h.Close())
		}
		require.NoError(t, db.Close())
	}
}
