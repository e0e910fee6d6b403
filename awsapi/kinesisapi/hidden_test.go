package kinesisapi

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// New shards are shown when the stream is ACTIVE again.
func TestChildrenAreHiddenUntilTheStreamIsActive(t *testing.T) {
	for op, in := range map[string]obj{
		"SplitShard":       {"ShardToSplit": "0", "NewStartingHashKey": "1000"},
		"MergeShards":      {"ShardToMerge": "0", "AdjacentShardToMerge": "1"},
		"UpdateShardCount": {"TargetShardCount": 4, "ScalingType": "UNIFORM_SCALING"},
	} {
		synctest.Test(t, func(t *testing.T) {
			e := newEndpoint(t, &Options{UpdateTime: 10 * time.Second, DeleteTime: 10 * time.Second})
			e.create("s", 2)
			look := func() []any {
				t.Helper()
				d := e.ok("DescribeStream", obj{"StreamName": "s"})["StreamDescription"].(obj)
				require.Equal(t, d["Shards"], e.ok("ListShards", obj{"StreamName": "s"})["Shards"])
				open := 0
				for _, s := range d["Shards"].([]any) {
					if s.(obj)["SequenceNumberRange"].(obj)["EndingSequenceNumber"] == nil {
						open++
					}
				}
				require.EqualValues(t, open, e.ok("DescribeStreamSummary", obj{"StreamName": "s"})["StreamDescriptionSummary"].(obj)["OpenShardCount"])
				require.Len(t, e.ok("ListShards", obj{"StreamName": "s", "ShardFilter": obj{"Type": "AT_LATEST"}})["Shards"], open)
				return d["Shards"].([]any)
			}
			before := look()
			in["StreamName"] = "s"
			e.ok(op, in)
			require.Equal(t, before, look(), op)
			time.Sleep(10 * time.Second)
			after := look()
			require.Greater(t, len(after), 2)
			require.Contains(t, after[0].(obj)["SequenceNumberRange"], "EndingSequenceNumber")

			// What was hidden when the stream was deleted does not come.
			e.ok("UpdateShardCount", obj{"StreamName": "s", "TargetShardCount": 2, "ScalingType": "UNIFORM_SCALING"})
			e.ok("DeleteStream", obj{"StreamName": "s"})
			require.Equal(t, after, look(), op)
		})
	}
}

// A shard whose children are hidden has not ended for its readers: they wait, and
// learn of the children when lists have them. What is put meanwhile is there then.
func TestReadersLearnOfHiddenChildrenWhenTheStreamIsActive(t *testing.T) {
	inBubble(t, &Options{UpdateTime: 10 * time.Second}, func(e *endpoint) {
		t := e.t
		e.create("s", 1)
		e.put("s", "k", "before")
		arn := e.register("s", "c")
		sub := e.subscribe(arn, "0", obj{"Type": "TRIM_HORIZON"})
		defer sub.hangUp()
		_, _, _ = sub.next()
		_, out, _ := sub.next()
		require.Equal(t, []string{"before"}, data(t, out))
		begin := time.Now()
		e.ok("SplitShard", obj{"StreamName": "s", "ShardToSplit": "0", "NewStartingHashKey": "1000"})
		child := e.put("s", "k", "during")["ShardId"].(string)
		require.NotEqual(t, shardID(0), child)

		it := e.iterator("s", "0", "TRIM_HORIZON")
		for i := range 5 {
			out := e.ok("GetRecords", obj{"ShardIterator": it})
			require.NotContains(t, out, "ChildShards")
			require.EqualValues(t, 0, out["MillisBehindLatest"])
			require.Len(t, out["Records"], 1-min(i, 1))
			it = out["NextShardIterator"].(string)
		}
		latest := e.iterator("s", "0", "LATEST")
		last := ""
		for {
			_, out, ok := sub.next()
			require.True(t, ok)
			require.Empty(t, data(t, out))
			if out["ChildShards"] != nil {
				require.Len(t, out["ChildShards"], 2)
				require.NotContains(t, out, "ContinuationSequenceNumber")
				break
			}
			last = out["ContinuationSequenceNumber"].(string)
		}
		require.Equal(t, 10*time.Second, time.Since(begin))
		require.Len(t, e.ok("ListShards", obj{"StreamName": "s"})["Shards"], 3)
		for _, it := range []string{it, latest, e.iterator("s", "0", "AFTER_SEQUENCE_NUMBER", obj{"StartingSequenceNumber": last})} {
			out := e.ok("GetRecords", obj{"ShardIterator": it})
			require.Empty(t, data(t, out))
			require.Len(t, out["ChildShards"], 2)
			require.NotContains(t, out, "NextShardIterator")
		}
		require.Equal(t, []string{"during"}, data(t, e.ok("GetRecords", obj{"ShardIterator": e.iterator("s", child, "TRIM_HORIZON")})))

		// A merge, of which one parent is read and the clock is moved.
		e.ok("MergeShards", obj{"StreamName": "s", "ShardToMerge": "1", "AdjacentShardToMerge": "2"})
		it = e.ok("GetRecords", obj{"ShardIterator": e.iterator("s", "1", "TRIM_HORIZON")})["NextShardIterator"].(string)
		e.h.SetClockOffset(10 * time.Second)
		require.Len(t, e.ok("GetRecords", obj{"ShardIterator": it})["ChildShards"], 1)
		e.h.SetClockOffset(0)
		require.Len(t, e.ok("GetRecords", obj{"ShardIterator": it})["ChildShards"], 1, "what was seen stays")
	})
}

// A stream has no shards to show while it is being created, and never gets them
// if it is deleted then.
func TestShardsOfAStreamThatIsDeletedWhileItIsCreated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(t, &Options{CreateTime: 10 * time.Second, DeleteTime: time.Minute})
		e.create("s", 2)
		look := func(status string) {
			t.Helper()
			d := e.ok("DescribeStream", obj{"StreamName": "s"})["StreamDescription"].(obj)
			require.Equal(t, status, d["StreamStatus"])
			require.Empty(t, d["Shards"])
			require.EqualValues(t, 0, e.ok("DescribeStreamSummary", obj{"StreamName": "s"})["StreamDescriptionSummary"].(obj)["OpenShardCount"])
		}
		look(statusCreating)
		e.ok("DeleteStream", obj{"StreamName": "s"})
		look(statusDeleting)
		time.Sleep(30 * time.Second)
		look(statusDeleting)
		require.Empty(t, e.ok("ListShards", obj{"StreamName": "s"})["Shards"])
		e.create("t", 2)
		time.Sleep(10 * time.Second)
		e.ok("DeleteStream", obj{"StreamName": "t"})
		require.Len(t, e.ok("DescribeStream", obj{"StreamName": "t"})["StreamDescription"].(obj)["Shards"], 2, "one that was there keeps them until it is gone")
	})
}

// No operation takes control characters in tags, or keys that are AWS's own.
func TestTagsThatAreRefused(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 1)
	const invalid = "Some tags contain invalid characters. Valid characters: Unicode letters, digits, white space, _ . / = + - % @."
	const reserved = "aws: prefixed tag key names are not allowed for external use."
	try := func(key, value, text string) {
		t.Helper()
		tags := obj{key: value}
		e.fails("AddTagsToStream", obj{"StreamName": "s", "Tags": tags}, codeInvalid, text)
		e.fails("TagResource", obj{"ResourceARN": testARN + "s", "Tags": tags}, codeInvalid, text)
		e.fails("CreateStream", obj{"StreamName": "t", "Tags": tags}, codeInvalid, text)
		e.fails("RegisterStreamConsumer", obj{"StreamARN": testARN + "s", "ConsumerName": "c", "Tags": tags}, codeInvalid, text)
		if value == "" {
			e.fails("RemoveTagsFromStream", obj{"StreamName": "s", "TagKeys": []string{key}}, codeInvalid, text)
			e.fails("UntagResource", obj{"ResourceARN": testARN + "s", "TagKeys": []string{key}}, codeInvalid, text)
		}
	}
	for _, bad := range []string{"\t", "a\nb", "\r", "\f", "\v", "\x00", "\x7f", "\u0085", "\u00a0", "a\x1b", "a\n"} {
		try(bad, "", invalid)
		try("k", bad, invalid)
	}
	for _, key := range []string{"aws:", "aws:x", "AWS:cloudformation:stack-name", "Aws:X"} {
		try(key, "", reserved)
	}
	e.ok("AddTagsToStream", obj{"StreamName": "s", "Tags": obj{"a b": "aws:x", "aws": "", "xaws:": "", "ä:ö": " "}})
	require.Len(t, e.ok("ListTagsForStream", obj{"StreamName": "s"})["Tags"], 4)
}
