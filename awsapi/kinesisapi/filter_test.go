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

// requireOpen checks that the filters by a time agree with what is open: no shard
// was closed in its millisecond or later.
func requireOpen(e *endpoint, name string, at time.Time, kinds ...string) {
	e.t.Helper()
	list := func(filter obj) any {
		return e.ok("ListShards", obj{"StreamName": name, "ShardFilter": filter})["Shards"]
	}
	open := list(obj{"Type": "AT_LATEST"})
	require.NotEmpty(e.t, open)
	for _, kind := range kinds {
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
		time.Sleep(time.Millisecond)
		requireOpen(e, "s", time.Now(), "AT_TIMESTAMP", "FROM_TIMESTAMP")
		then := e.ok("ListShards", obj{"StreamName": "s", "ShardFilter": obj{"Type": "AT_TIMESTAMP", "Timestamp": before}})["Shards"].([]any)
		require.Len(t, then, 1)
		require.Equal(t, shardID(0), then[0].(obj)["ShardId"])
		require.Len(t, e.ok("ListShards", obj{"StreamName": "s", "ShardFilter": obj{"Type": "FROM_TIMESTAMP", "Timestamp": before}})["Shards"], 181)
		time.Sleep(1100 * time.Millisecond)
		requireOpen(e, "s", time.Now().Add(-100*time.Millisecond), "AT_TIMESTAMP", "FROM_TIMESTAMP")
		reshard(e, "s", 1)
		time.Sleep(time.Millisecond)
		requireOpen(e, "s", time.Now(), "AT_TIMESTAMP", "FROM_TIMESTAMP")
	})
}

// Shards that follow each other within a millisecond: at the horizon the first
// ones were open, at that time the last ones, and since then all of them.
func TestFiltersWithinAMillisecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(t, nil)
		e.create("s", 1)
		reshard(e, "s", 2) // 0; 1 and 2; 3
		now := float64(time.Now().UnixMilli()) / 1000
		for _, c := range []struct {
			filter obj
			want   []uint32
		}{
			{obj{"Type": "AT_TRIM_HORIZON"}, []uint32{0}},
			{obj{"Type": "FROM_TRIM_HORIZON"}, []uint32{0, 1, 2, 3}},
			{obj{"Type": "AT_TIMESTAMP", "Timestamp": now - 1}, []uint32{0}},
			{obj{"Type": "FROM_TIMESTAMP", "Timestamp": now - 1}, []uint32{0, 1, 2, 3}},
			{obj{"Type": "AT_TIMESTAMP", "Timestamp": now}, []uint32{3}},
			{obj{"Type": "FROM_TIMESTAMP", "Timestamp": now}, []uint32{0, 1, 2, 3}},
			{obj{"Type": "AT_LATEST"}, []uint32{3}},
		} {
			var got []uint32
			for _, s := range e.ok("ListShards", obj{"StreamName": "s", "ShardFilter": c.filter})["Shards"].([]any) {
				index, ok := shardIndex(s.(obj)["ShardId"].(string))
				require.True(t, ok)
				got = append(got, index)
			}
			require.Equal(t, c.want, got, "%v", c.filter)
		}
	})
}

// A clock of the machine that was years ahead dates shards into the future. They
// are there nevertheless.
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
		requireOpen(e, "s", time.Now(), "AT_TIMESTAMP")
		// The records of all of them are still there.
		for _, filter := range []obj{{"Type": "FROM_TRIM_HORIZON"}, {"Type": "FROM_TIMESTAMP", "Timestamp": time.Now().Unix()}} {
			require.Len(t, e.ok("ListShards", obj{"StreamName": "s", "ShardFilter": filter})["Shards"], 6)
		}
		require.Len(t, e.ok("ListShards", obj{"StreamName": "s", "ShardFilter": obj{"Type": "AT_TRIM_HORIZON"}})["Shards"], 1)
		reshard(e, "s", 3)
		requireOpen(e, "s", time.Now(), "AT_TIMESTAMP")
	})
}
