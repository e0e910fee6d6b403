package kinesisapi

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/internal/awswire"
	"github.com/shardlog/shardlog/stream"
)

func (e *endpoint) status(name string) any {
	e.t.Helper()
	return e.ok("DescribeStreamSummary", obj{"StreamName": name})["StreamDescriptionSummary"].(obj)["StreamStatus"]
}

func (e *endpoint) shards(name string) []obj {
	e.t.Helper()
	var all []obj
	for _, s := range e.ok("ListShards", obj{"StreamName": name})["Shards"].([]any) {
		all = append(all, s.(obj))
	}
	return all
}

// TestResourcesHaveToBeActive changes tags and policies by ARN of what is on its
// way from one state to another. Reading them needs no state.
func TestResourcesHaveToBeActive(t *testing.T) {
	e := newEndpoint(t, &Options{CreateTime: time.Minute, UpdateTime: time.Minute, DeleteTime: time.Minute})
	step := func() { e.h.SetClockOffset(e.h.ClockOffset() + time.Minute) }
	changes := func(arn string) map[string]obj {
		return map[string]obj{
			"TagResource":          {"ResourceARN": arn, "Tags": obj{"a": "b"}},
			"UntagResource":        {"ResourceARN": arn, "TagKeys": []any{"a"}},
			"PutResourcePolicy":    {"ResourceARN": arn, "Policy": testPolicy(arn)},
			"DeleteResourcePolicy": {"ResourceARN": arn},
		}
	}
	refused := func(arn, message string) {
		for op, in := range changes(arn) {
			e.fails(op, in, codeInUse, message)
		}
		e.ok("ListTagsForResource", obj{"ResourceARN": arn})
		e.ok("GetResourcePolicy", obj{"ResourceARN": arn})
	}
	allowed := func(arn string) {
		for op, in := range changes(arn) {
			e.ok(op, in)
		}
	}
	e.create("s", 1)
	refused(testARN+"s", "Stream s under account 123456789012 not ACTIVE, instead in state CREATING")
	step()
	allowed(testARN + "s")
	arn := e.register("s", "c")
	message := "Consumer c with creation timestamp " + arn[strings.LastIndex(arn, ":")+1:] + " under stream s and account 123456789012 is not in ACTIVE status."
	refused(arn, message)
	step()
	allowed(arn)
	e.ok("DeregisterStreamConsumer", obj{"ConsumerARN": arn})
	refused(arn, message)
	e.ok("DeleteStream", obj{"StreamName": "s", "EnforceConsumerDeletion": true})
	refused(testARN+"s", "Stream s under account 123456789012 not ACTIVE, instead in state DELETING")
}

func TestStatesOfAStream(t *testing.T) {
	e := newEndpoint(t, &Options{CreateTime: time.Minute, UpdateTime: time.Minute, DeleteTime: time.Minute})
	e.create("s", 1)
	step := func() { e.h.SetClockOffset(e.h.ClockOffset() + time.Minute) }
	require.Equal(t, "CREATING", e.status("s"))
	missing := "Stream s under account 123456789012 not found."
	e.fails("PutRecord", obj{"StreamName": "s", "PartitionKey": "k", "Data": ""}, codeNotFound, missing)
	require.Empty(t, e.ok("DescribeStream", obj{"StreamName": "s"})["StreamDescription"].(obj)["Shards"])
	split := obj{"StreamName": "s", "ShardToSplit": "0", "NewStartingHashKey": "100"}
	e.fails("SplitShard", split, codeInUse, "Stream s under account 123456789012 not ACTIVE, instead in state CREATING")
	step()
	require.Equal(t, "ACTIVE", e.status("s"))
	e.ok("SplitShard", split)
	require.Equal(t, "UPDATING", e.status("s"))
	e.put("s", "k", "while it is updated")
	e.fails("AddTagsToStream", obj{"StreamName": "s", "Tags": obj{"a": "b"}}, codeInUse, "Stream s under account 123456789012 not ACTIVE, instead in state UPDATING")
	step()
	require.Equal(t, "ACTIVE", e.status("s"))
	e.ok("DeleteStream", obj{"StreamName": "s"})
	require.Equal(t, "DELETING", e.status("s"))
	e.fails("PutRecord", obj{"StreamName": "s", "PartitionKey": "k", "Data": ""}, codeNotFound, missing)
	e.fails("CreateStream", obj{"StreamName": "s"}, codeInUse, "Stream s under account 123456789012 already exists.")
	e.fails("DeleteStream", obj{"StreamName": "s"}, codeInUse, "Stream s under account 123456789012 not ACTIVE, instead in state DELETING")
	require.Equal(t, []any{"s"}, e.ok("ListStreams", obj{})["StreamNames"])
	step()
	e.fails("DescribeStream", obj{"StreamName": "s"}, codeNotFound, missing)
	require.Empty(t, e.ok("ListStreams", obj{})["StreamNames"])
}

func TestADeletionEndsUnasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := stream.Open("", &stream.Options{InMemory: true})
		require.NoError(t, err)
		defer db.Close()
		h, err := NewHandler(db, &Options{DeleteTime: time.Minute})
		require.NoError(t, err)
		defer h.Close()
		e := &endpoint{t, h, db}
		for _, name := range []string{"waits", "is closed"[:2]} {
			e.create(name, 1)
			e.ok("DeleteStream", obj{"StreamName": name})
			_, err = db.Stream(t.Context(), name)
			require.NoError(t, err)
			if name == "waits" {
				time.Sleep(61 * time.Second)
			} else {
				require.NoError(t, h.Close())
			}
			_, err = db.Stream(t.Context(), name)
			require.Error(t, err)
		}
	})
}

func TestCreateStream(t *testing.T) {
	e := newEndpoint(t, &Options{ShardLimit: 12})
	e.ok("CreateStream", obj{"StreamName": "default"})
	require.Len(t, e.shards("default"), 4)
	d := e.ok("DescribeStream", obj{"StreamName": "default"})["StreamDescription"].(obj)
	require.Equal(t, obj{"StreamMode": "ON_DEMAND"}, d["StreamModeDetails"])
	e.ok("CreateStream", obj{"StreamName": "large", "ShardCount": 1, "MaxRecordSizeInKiB": 2048, "Tags": obj{"a": "b"}})
	sum := e.ok("DescribeStreamSummary", obj{"StreamName": "large"})["StreamDescriptionSummary"].(obj)
	require.EqualValues(t, 2048, sum["MaxRecordSizeInKiB"])
	require.Equal(t, obj{"StreamMode": "PROVISIONED"}, sum["StreamModeDetails"])
	require.Equal(t, []any{obj{"Key": "a", "Value": "b"}}, e.ok("ListTagsForStream", obj{"StreamName": "large"})["Tags"])
	e.fails("CreateStream", obj{"StreamName": "large", "ShardCount": 1}, codeInUse, "Stream large under account 123456789012 already exists.")
	e.fails("CreateStream", obj{"StreamName": "more", "ShardCount": 8}, codeLimit, "This request would exceed the shard limit for the account 123456789012 in eu-west-1. "+
		"Current shard count for the account: 5. Limit: 12. Number of additional shards that would have resulted from this request: 8. Refer to the AWS Service Limits page "+
		"(http://docs.aws.amazon.com/general/latest/gr/aws_service_limits.html) for current limits and how to request higher limits.")
	for _, in := range []obj{
		{"StreamName": "x", "ShardCount": 1, "StreamModeDetails": obj{"StreamMode": "ON_DEMAND"}},
		{"StreamName": "x", "StreamModeDetails": obj{"StreamMode": "PROVISIONED"}},
		{"StreamName": "x", "ShardCount": 1, "WarmThroughputMiBps": 10},
		{"StreamName": "x", "ShardCount": 1, "Tags": obj{"a": "\u2028;"}},
	} {
		e.fails("CreateStream", in, codeInvalid, e.message("CreateStream", in))
	}
	for name, ranges := range map[string][]string{"default": {"0", "85070591730234615865843651857942052863", "85070591730234615865843651857942052864"}} {
		for i, want := range ranges {
			r := e.shards(name)[i/2]["HashKeyRange"].(obj)
			require.Equal(t, want, r[[]string{"StartingHashKey", "EndingHashKey"}[i%2]])
		}
	}
}

// message returns the text of an error; that there is one is checked by fails.
func (e *endpoint) message(op string, in obj) string {
	_, out := e.send(op, in)
	text, _ := out["message"].(string)
	require.NotEmpty(e.t, text)
	return text
}

func TestAccountsAndRegions(t *testing.T) {
	e := newEndpoint(t, nil)
	as := func(account, region, op, body string) (int, string) {
		r := newRequest(op, typeJSON, []byte(body))
		r.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/20260101/%s/kinesis/aws4_request,SignedHeaders=host,Signature=00", account, region))
		w := e.do(r)
		return w.Code, w.Body.String()
	}
	const put = `{"StreamName":"s","PartitionKey":"k","Data":"eA=="}`
	for _, c := range [][2]string{{"111111111111", "eu-west-1"}, {"222222222222", "eu-west-1"}, {"111111111111", "us-gov-west-1"}, {"AKIAKEY", "us-east-1"}} {
		status, body := as(c[0], c[1], "PutRecord", put)
		require.Equal(t, 400, status, body)
		status, body = as(c[0], c[1], "CreateStream", `{"StreamName":"s","ShardCount":1}`)
		require.Equal(t, 200, status, body)
		status, body = as(c[0], c[1], "CreateStream", `{"StreamName":"s","ShardCount":1}`)
		require.Equal(t, 400, status, body)
		_, body = as(c[0], c[1], "ListStreams", `{}`)
		require.Contains(t, body, `{"StreamNames":["s"],"HasMoreStreams":false`)
	}
	_, body := as("111111111111", "us-gov-west-1", "DescribeStreamSummary", `{"StreamName":"s"}`)
	require.Contains(t, body, `"StreamARN":"arn:aws-us-gov:kinesis:us-gov-west-1:111111111111:stream/s"`)
	_, body = as("AKIAKEY", "us-east-1", "DescribeStreamSummary", `{"StreamName":"s"}`)
	require.Contains(t, body, `"StreamARN":"arn:aws:kinesis:us-east-1:000000000000:stream/s"`)
	// One that is deleted leaves the others alone.
	status, _ := as("111111111111", "eu-west-1", "DeleteStream", `{"StreamName":"s"}`)
	require.Equal(t, 200, status)
	status, _ = as("111111111111", "eu-west-1", "PutRecord", put)
	require.Equal(t, 400, status)
	status, _ = as("222222222222", "eu-west-1", "PutRecord", put)
	require.Equal(t, 200, status)
	// One that was made in the process is everybody's.
	_, err := e.db.Create(t.Context(), "everybodys", stream.Config{})
	require.NoError(t, err)
	for _, account := range []string{"111111111111", "333333333333"} {
		status, body = as(account, "eu-west-1", "DescribeStreamSummary", `{"StreamName":"everybodys"}`)
		require.Equal(t, 200, status)
		require.Contains(t, body, account)
	}
	long := qualifiedName(awswire.Scope{Account: "111111111111", Region: "eu-west-1"}, fmt.Sprintf("%0128d", 1))
	require.Len(t, long, 128)
	require.NotEqual(t, long, qualifiedName(awswire.Scope{Account: "111111111111", Region: "eu-west-1"}, fmt.Sprintf("%0128d", 2)))
}

func TestStreamsByARN(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 1)
	e.ok("PutRecord", obj{"StreamARN": testARN + "s", "PartitionKey": "k", "Data": ""})
	e.ok("PutRecord", obj{"StreamName": "s", "StreamARN": testARN + "s", "PartitionKey": "k", "Data": ""})
	e.fails("DescribeStream", obj{"StreamARN": testARN + "t"}, codeNotFound, "Stream t under account 123456789012 not found.")
	long := strings.Repeat("x", 129)
	e.fails("DescribeStream", obj{"StreamARN": testARN + long}, codeNotFound, "Stream "+long+" under account 123456789012 not found.")
	e.fails("DescribeStream", obj{"StreamName": "s", "StreamARN": testARN + long}, codeInvalid, "StreamName s does not match the StreamARN "+testARN+long+".")
	for _, in := range []obj{{"StreamName": "x", "StreamARN": testARN + "s"}, {}, {"StreamARN": testARN + "s/consumer/c:1"}} {
		e.fails("DescribeStream", in, codeInvalid, e.message("DescribeStream", in))
	}
}

func TestListStreamsHasPages(t *testing.T) {
	e := newEndpoint(t, nil)
	var names []any
	for i := range 5 {
		names = append(names, fmt.Sprint("s", i))
		e.create(fmt.Sprint("s", i), 1)
	}
	var got []any
	in := obj{"Limit": 2}
	for pages := 1; ; pages++ {
		out := e.ok("ListStreams", in)
		got = append(got, out["StreamNames"].([]any)...)
		require.Len(t, out["StreamSummaries"], len(out["StreamNames"].([]any)))
		if out["HasMoreStreams"] == false {
			require.NotContains(t, out, "NextToken")
			require.Equal(t, 3, pages)
			break
		}
		in = obj{"Limit": 2, "NextToken": out["NextToken"]}
	}
	require.Equal(t, names, got)
	require.Equal(t, names[3:], e.ok("ListStreams", obj{"ExclusiveStartStreamName": "s2"})["StreamNames"])
	require.Equal(t, names[3:], e.ok("ListStreams", obj{"ExclusiveStartStreamName": "s25"})["StreamNames"])
	e.fails("ListStreams", obj{"NextToken": "x"}, codeInvalid, "NextToken is invalid.")
	token := e.ok("ListStreams", obj{"Limit": 2})["NextToken"]
	e.h.SetClockOffset(301 * time.Second)
	e.fails("ListStreams", obj{"NextToken": token}, "ExpiredNextTokenException", "NextToken has expired.")
}

func TestPagesOfShards(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 205)
	var got []string
	in := obj{"StreamName": "s"}
	for {
		d := e.ok("DescribeStream", in)["StreamDescription"].(obj)
		for _, s := range d["Shards"].([]any) {
			got = append(got, s.(obj)["ShardId"].(string))
		}
		if d["HasMoreShards"] == false {
			break
		}
		require.Zero(t, len(got)%100)
		in["ExclusiveStartShardId"] = got[len(got)-1]
	}
	require.Len(t, slices.Compact(got), 205)
	got = nil
	in = obj{"StreamName": "s", "MaxResults": 100}
	for {
		out := e.ok("ListShards", in)
		for _, s := range out["Shards"].([]any) {
			got = append(got, s.(obj)["ShardId"].(string))
		}
		if out["NextToken"] == nil {
			break
		}
		in = obj{"NextToken": out["NextToken"], "MaxResults": 100}
		e.fails("ListShards", obj{"NextToken": out["NextToken"], "StreamName": "s"}, codeInvalid, "NextToken and StreamName cannot be provided together.")
	}
	require.Len(t, slices.Compact(got), 205)
	e.fails("ListShards", obj{}, codeInvalid, "Either NextToken or StreamName should be provided.")
}

func TestSplitAndMerge(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 3)
	for _, id := range []string{"shardId-x", "shardId-2147483648", "0x1"} {
		e.fails("SplitShard", obj{"StreamName": "none", "ShardToSplit": id, "NewStartingHashKey": "7"}, codeNotFound,
			"Could not find shard "+id+" in stream none under account 123456789012.")
	}
	split := func(id, key string) obj {
		return obj{"StreamName": "s", "ShardToSplit": id, "NewStartingHashKey": key}
	}
	merge := func(a, b string) obj { return obj{"StreamName": "s", "ShardToMerge": a, "AdjacentShardToMerge": b} }
	e.fails("SplitShard", split("7", "7"), codeNotFound, "Could not find shard shardId-000000000007 in stream s under account 123456789012.")
	const third = "113427455640312821154458202477256070484"
	for _, key := range []string{"0", "1", third, "99999999999999999999999999999999999999"} {
		if key != "99999999999999999999999999999999999999" {
			e.fails("SplitShard", split("0", key), codeInvalid, "NewStartingHashKey "+key+" used in SplitShard() on shard shardId-000000000000 in stream s under account 123456789012 is not both "+
				"greater than one plus the shard's StartingHashKey 0 and less than the shard's EndingHashKey "+third+".")
		}
	}
	e.ok("SplitShard", split("shardId-0", "2"))
	gone := "Shard shardId-000000000000 in stream s under account 123456789012 has already been merged or split, and thus is not eligible for merging or splitting."
	e.fails("SplitShard", split("0", "2"), codeInvalid, gone)
	e.fails("MergeShards", merge("0", "1"), codeInvalid, gone)
	e.fails("MergeShards", merge("3", "1"), codeInvalid, "Shards shardId-000000000003 and shardId-000000000001 in stream s under account 123456789012 are not an adjacent pair of shards eligible for merging")
	e.fails("MergeShards", merge("1", "1"), codeInvalid, "Shards shardId-000000000001 and shardId-000000000001 in stream s under account 123456789012 are not an adjacent pair of shards eligible for merging")
	e.fails("MergeShards", merge("2", "1"), codeInvalid, "Shards shardId-000000000002 and shardId-000000000001 in stream s under account 123456789012 are not an adjacent pair of shards eligible for merging")
	e.fails("MergeShards", merge("1", "9"), codeNotFound, "Could not find shard shardId-000000000009 in stream s under account 123456789012.")
	e.ok("MergeShards", merge("4", "1"))
	all := e.shards("s")
	require.Len(t, all, 6)
	require.Equal(t, "shardId-000000000000", all[3]["ParentShardId"])
	require.Equal(t, "shardId-000000000004", all[5]["ParentShardId"])
	require.Equal(t, "shardId-000000000001", all[5]["AdjacentParentShardId"])
	require.NotContains(t, all[2]["SequenceNumberRange"], "EndingSequenceNumber")
	require.Contains(t, all[0]["SequenceNumberRange"], "EndingSequenceNumber")
}

func TestFiltersOfShards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := stream.Open("", &stream.Options{InMemory: true})
		require.NoError(t, err)
		defer db.Close()
		h, err := NewHandler(db, nil)
		require.NoError(t, err)
		defer h.Close()
		e := &endpoint{t, h, db}
		began := time.Now()
		e.create("s", 2)
		time.Sleep(time.Hour)
		e.ok("SplitShard", obj{"StreamName": "s", "ShardToSplit": "0", "NewStartingHashKey": "1000"}) // 2, 3
		time.Sleep(time.Hour)
		e.ok("MergeShards", obj{"StreamName": "s", "ShardToMerge": "3", "AdjacentShardToMerge": "1"}) // 4
		time.Sleep(time.Hour)
		ids := func(f obj) (list []int) {
			for _, s := range e.ok("ListShards", obj{"StreamName": "s", "ShardFilter": f})["Shards"].([]any) {
				n, ok := shardIndex(s.(obj)["ShardId"].(string))
				require.True(t, ok)
				list = append(list, int(n))
			}
			return list
		}
		at := func(d time.Duration) float64 { return float64(began.Add(d).Unix()) }
		require.Equal(t, []int{2, 4}, ids(obj{"Type": "AT_LATEST"}))
		require.Equal(t, []int{0, 1}, ids(obj{"Type": "AT_TRIM_HORIZON"}))
		require.Equal(t, []int{0, 1, 2, 3, 4}, ids(obj{"Type": "FROM_TRIM_HORIZON"}))
		require.Equal(t, []int{1, 2, 3}, ids(obj{"Type": "AT_TIMESTAMP", "Timestamp": at(90 * time.Minute)}))
		require.Equal(t, []int{1, 2, 3, 4}, ids(obj{"Type": "FROM_TIMESTAMP", "Timestamp": at(90 * time.Minute)}))
		require.Equal(t, []int{0, 1}, ids(obj{"Type": "AT_TIMESTAMP", "Timestamp": at(-time.Hour)}))
		require.Equal(t, []int{3, 4}, ids(obj{"Type": "AFTER_SHARD_ID", "ShardId": "shardId-000000000002"}))
		for _, f := range []obj{{"Type": "AT_TIMESTAMP"}, {"Type": "AT_LATEST", "Timestamp": at(0)}, {"Type": "AFTER_SHARD_ID"},
			{"Type": "AT_LATEST", "ShardId": "0"}, {"Type": "AT_TIMESTAMP", "Timestamp": at(4 * time.Hour)}} {
			in := obj{"StreamName": "s", "ShardFilter": f}
			e.fails("ListShards", in, codeInvalid, e.message("ListShards", in))
		}
		created := e.ok("DescribeStreamSummary", obj{"StreamName": "s"})["StreamDescriptionSummary"].(obj)["StreamCreationTimestamp"]
		e.ok("ListShards", obj{"StreamName": "s", "StreamCreationTimestamp": created})
		e.fails("ListShards", obj{"StreamName": "s", "StreamCreationTimestamp": 1}, codeNotFound, "Stream s under account 123456789012 not found.")
	})
}

func TestUpdateShardCount(t *testing.T) {
	e := newEndpoint(t, &Options{ControlLimits: true, UpdateTime: 0})
	for i, c := range []struct{ from, to, listed int }{{2, 4, 6}, {4, 5, 15}, {10, 13, 41}, {4, 2, 6}, {3, 3, 3}} {
		name := fmt.Sprint("s", i)
		e.h.SetClockOffset(time.Duration(i) * time.Minute)
		e.create(name, c.from)
		out := e.ok("UpdateShardCount", obj{"StreamName": name, "TargetShardCount": c.to, "ScalingType": "UNIFORM_SCALING"})
		require.Equal(t, obj{"StreamName": name, "StreamARN": testARN + name, "CurrentShardCount": float64(c.from), "TargetShardCount": float64(c.to)}, out)
		require.Len(t, e.shards(name), c.listed)
		st, err := e.db.Stream(t.Context(), name)
		require.NoError(t, err)
		require.Equal(t, c.to, st.Info().OpenShards)
	}
	in := obj{"StreamName": "s0", "TargetShardCount": 9, "ScalingType": "UNIFORM_SCALING"}
	e.fails("UpdateShardCount", in, codeLimit, "UpdateShardCount cannot scale up over double your current open shard count. Current open shard count: 4 Target shard count: 9")
	in["TargetShardCount"] = 1
	e.fails("UpdateShardCount", in, codeLimit, "UpdateShardCount cannot scale down below half your current open shard count. Current open shard count: 4 Target shard count: 1")
	in["TargetShardCount"] = 4
	for i := range 9 {
		e.h.SetClockOffset(time.Duration(10+i) * time.Minute)
		e.ok("UpdateShardCount", in)
	}
	e.fails("UpdateShardCount", in, codeLimit, "UpdateShardCount cannot be called more than 10 times per stream in 24 hours.")
	e.h.SetClockOffset(25 * time.Hour)
	e.ok("UpdateShardCount", in)
}

func TestRetention(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 1)
	in := func(h int) obj { return obj{"StreamName": "s", "RetentionPeriodHours": h} }
	e.ok("IncreaseStreamRetentionPeriod", in(48))
	sum := e.ok("DescribeStreamSummary", obj{"StreamName": "s"})["StreamDescriptionSummary"].(obj)
	require.EqualValues(t, 48, sum["RetentionPeriodHours"])
	e.ok("IncreaseStreamRetentionPeriod", in(48))
	e.fails("IncreaseStreamRetentionPeriod", in(47), codeInvalid, "Requested retention period (47 hours) for stream s can not be shorter than existing retention period (48 hours). Use DecreaseRetentionPeriod API.")
	e.fails("DecreaseStreamRetentionPeriod", in(49), codeInvalid, "Requested retention period (49 hours) for stream s can not be longer than existing retention period (48 hours). Use IncreaseRetentionPeriod API.")
	e.fails("DecreaseStreamRetentionPeriod", in(23), codeInvalid, "Minimum allowed retention period is 24 hours. Requested retention period (23 hours) is too short.")
	e.fails("IncreaseStreamRetentionPeriod", in(8761), codeInvalid, "Maximum allowed retention period is 8760 hours. Requested retention period (8761 hours) is too long.")
	e.ok("DecreaseStreamRetentionPeriod", in(24))
	st, err := e.db.Stream(t.Context(), "s")
	require.NoError(t, err)
	require.Equal(t, 24*time.Hour, st.Info().Retention)
	_, err = e.db.Create(t.Context(), "forever", stream.Config{Retention: stream.Forever})
	require.NoError(t, err)
	sum = e.ok("DescribeStreamSummary", obj{"StreamName": "forever"})["StreamDescriptionSummary"].(obj)
	require.EqualValues(t, 8760, sum["RetentionPeriodHours"])
}

// Requests at the same time do not pass the shard limit together.
func TestShardLimitAtTheSameTime(t *testing.T) {
	for range 10 {
		e := newEndpoint(t, &Options{ShardLimit: 3})
		var wg sync.WaitGroup
		begin, created := make(chan struct{}), atomic.Int64{}
		for i := range 8 {
			wg.Go(func() {
				<-begin
				body := fmt.Sprintf(`{"StreamName":"s%d","ShardCount":1}`, i)
				if e.do(newRequest("CreateStream", typeJSON, []byte(body))).Code == 200 {
					created.Add(1)
				}
			})
		}
		close(begin)
		wg.Wait()
		require.EqualValues(t, 3, created.Load())
	}
}
