package kinesisapi

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/stream"
)

func reshard(e *endpoint, name string, times int) {
	e.t.Helper()
	for i := range times {
		e.ok("UpdateShardCount", obj{"StreamName": name, "TargetShardCount": 1 + (i+1)%2, "ScalingType": "UNIFORM_SCALING"})
	}
}

// requireOpen checks that the filters by a time agree with what is open.
func requireOpen(e *endpoint, name string, at time.Time) {
	e.t.Helper()
	list := func(filter obj) any {
		return e.ok("ListShards", obj{"StreamName": name, "ShardFilter": filter})["Shards"]
	}
	open := list(obj{"Type": "AT_LATEST"})
	require.NotEmpty(e.t, open)
	for _, kind := range []string{"AT_TIMESTAMP", "FROM_TIMESTAMP"} {
		require.Equal(e.t, open, list(obj{"Type": kind, "Timestamp": float64(at.UnixMilli()) / 1000}), kind)
	}
}

// However quickly shards follow each other, a filter by time names those that
// were open: the dates in their numbers, which are later, do not count.
func TestFiltersAfterManyQuickReshards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(t, nil)
		e.create("s", 1)
		time.Sleep(700 * time.Millisecond)
		before := float64(time.Now().UnixMilli()) / 1000
		time.Sleep(time.Millisecond)
		reshard(e, "s", 120)
		requireOpen(e, "s", time.Now())
		then := e.ok("ListShards", obj{"StreamName": "s", "ShardFilter": obj{"Type": "AT_TIMESTAMP", "Timestamp": before}})["Shards"].([]any)
		require.Len(t, then, 1)
		require.Equal(t, shardID(0), then[0].(obj)["ShardId"])
		require.Len(t, e.ok("ListShards", obj{"StreamName": "s", "ShardFilter": obj{"Type": "FROM_TIMESTAMP", "Timestamp": before}})["Shards"], 181)
		time.Sleep(1100 * time.Millisecond)
		requireOpen(e, "s", time.Now().Add(-100*time.Millisecond))
		reshard(e, "s", 1)
		requireOpen(e, "s", time.Now())
	})
}

// A clock of the machine that was years ahead dates shards into the future. They
// are there all the same.
func TestFiltersAfterTheMachinesClockWasAhead(t *testing.T) {
	dir := t.TempDir()
	open := func(t *testing.T, after time.Duration, f func(*endpoint)) {
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(after)
			db, err := stream.Open(dir, nil)
			require.NoError(t, err)
			h, err := NewHandler(db, nil)
			require.NoError(t, err)
			f(&endpoint{t, h, db})
			require.NoError(t, h.Close())
			require.NoError(t, db.Close())
		})
	}
	const year = 365 * 24 * time.Hour
	open(t, 40*year, func(e *endpoint) {
		e.create("s", 1)
		reshard(e, "s", 3)
	})
	open(t, year, func(e *endpoint) {
		requireOpen(e, "s", time.Now())
		reshard(e, "s", 3)
		requireOpen(e, "s", time.Now())
	})
}
