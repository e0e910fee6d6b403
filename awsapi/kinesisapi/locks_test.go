package kinesisapi

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
	"github.com/shardlog/shardlog/internal/ctxsync"
)

// TestWaitsForLocksEndWithTheRequest holds each lock that is held while the
// database changes, and lets the clients of those that wait for it go away.
func TestWaitsForLocksEndWithTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(t, &Options{DeleteTime: time.Hour})
		e.create("s", 1)
		e.create("gone", 1)
		e.ok("RegisterStreamConsumer", obj{"StreamARN": testARN + "s", "ConsumerName": "c"})
		find := func(name string) *streamState {
			s, err := e.h.svc.streams.find(t.Context(), awswire.Scope{Account: testAccount, Region: "eu-west-1"}, name, &awswire.Clock{})
			require.NoError(t, err)
			return s
		}
		s, gone := find("s"), find("gone")
		type request struct {
			op string
			in obj
		}
		for _, held := range []struct {
			lock     ctxsync.Mutex
			requests []request
		}{
			{e.h.svc.accounts, []request{{"UpdateAccountSettings", obj{"MinimumThroughputBillingCommitment": obj{"Status": "ENABLED"}}}}},
			{e.h.svc.growth, []request{
				{"CreateStream", obj{"StreamName": "new", "ShardCount": 1}},
				{"UpdateShardCount", obj{"StreamName": "s", "TargetShardCount": 2, "ScalingType": "UNIFORM_SCALING"}},
				{"SplitShard", obj{"StreamName": "s", "ShardToSplit": "0", "NewStartingHashKey": "1000"}},
			}},
			{s.control, []request{
				{"AddTagsToStream", obj{"StreamName": "s", "Tags": obj{"a": "b"}}},
				{"TagResource", obj{"ResourceARN": testARN + "s", "Tags": obj{"a": "b"}}},
				{"DeregisterStreamConsumer", obj{"StreamARN": testARN + "s", "ConsumerName": "c"}},
				{"DeleteStream", obj{"StreamName": "s", "EnforceConsumerDeletion": true}},
			}},
		} {
			require.NoError(t, held.lock.Lock(t.Context()))
			for _, r := range held.requests {
				status, ended := e.sendAndLeave(r.op, r.in)
				require.True(t, ended, "%s waits for a lock after its client has gone", r.op)
				require.Equal(t, 503, status, r.op)
			}
			held.lock.Unlock()
		}
		require.Equal(t, statusActive, s.status(&awswire.Clock{}))

		// A request that finds a deletion due waits for one that is under way.
		e.ok("DeleteStream", obj{"StreamName": "gone"})
		e.h.SetClockOffset(2 * time.Hour)
		require.NoError(t, gone.removal.Lock(t.Context()))
		_, ended := e.sendAndLeave("DescribeStreamSummary", obj{"StreamName": "gone"})
		gone.removal.Unlock()
		require.True(t, ended)
	})
}

// sendAndLeave makes a call in a bubble of synctest, and ends its context as
// soon as it waits. Ended reports whether the call returned.
func (e *endpoint) sendAndLeave(op string, in obj) (status int, ended bool) {
	body, err := json.Marshal(in)
	require.NoError(e.t, err)
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	done := make(chan int, 1)
	go func() { done <- e.do(newRequest(op, typeJSON, body).WithContext(ctx)).Code }()
	synctest.Wait()
	require.Empty(e.t, done, "%s does not wait", op)
	leave()
	synctest.Wait()
	select {
	case status = <-done:
		return status, true
	default:
		return 0, false
	}
}

// TestDeletionDuringClose closes the endpoint between the beginning of a
// DeleteStream and the time when its deletion would be left to the background.
func TestDeletionDuringClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(t, &Options{DeleteTime: time.Hour})
		e.create("s", 1)
		_, err := e.h.InjectFault(Fault{Operation: "DeleteStream", Action: Latency, Latency: time.Hour})
		require.NoError(t, err)
		status := make(chan int, 1)
		go func() { status <- e.do(newRequest("DeleteStream", typeJSON, []byte(`{"StreamName":"s"}`))).Code }()
		synctest.Wait()
		require.Empty(t, status)
		require.NoError(t, e.h.Close())
		require.Equal(t, 200, <-status)
		_, err = e.db.Stream(t.Context(), "s")
		require.ErrorIs(t, err, shardlog.ErrNotFound, "the client was told that the stream goes")
	})
}
