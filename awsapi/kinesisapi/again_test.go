package kinesisapi

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/stream"
)

// reopenable is an endpoint over a directory, in a bubble whose clock stands.
type reopenable struct {
	*endpoint
	dir string
}

func (r *reopenable) open() {
	r.t.Helper()
	var err error
	r.db, err = stream.Open(r.dir, nil)
	require.NoError(r.t, err)
	r.h, err = NewHandler(r.db, nil)
	require.NoError(r.t, err)
}

func (r *reopenable) close() {
	r.t.Helper()
	require.NoError(r.t, r.h.Close())
	require.NoError(r.t, r.db.Close())
}

// replacements are ways to replace a stream by another one of its name, all
// within one millisecond.
var replacements = map[string]func(r *reopenable){
	"deleted": func(r *reopenable) {
		r.ok("DeleteStream", obj{"StreamName": "s", "EnforceConsumerDeletion": true})
	},
	"deleted by the process": func(r *reopenable) { require.NoError(r.t, r.db.Delete(r.t.Context(), "s")) },
	"reset":                  func(r *reopenable) { require.NoError(r.t, r.h.Reset(r.t.Context())) },
	"deleted and reopened": func(r *reopenable) {
		r.ok("DeleteStream", obj{"StreamName": "s", "EnforceConsumerDeletion": true})
		r.close()
		r.open()
	},
	"deleted by the process and reopened": func(r *reopenable) {
		require.NoError(r.t, r.db.Delete(r.t.Context(), "s"))
		r.close()
		r.open()
	},
	"reopened and deleted": func(r *reopenable) {
		r.close()
		r.open()
		r.ok("DeleteStream", obj{"StreamName": "s", "EnforceConsumerDeletion": true})
	},
}

// replaced calls f before a stream is deleted, whose result is called when there
// is another one with its name and fewer shards.
func replaced(t *testing.T, f func(t *testing.T, e *endpoint) func(e *endpoint)) {
	for name, replace := range replacements {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &reopenable{endpoint: &endpoint{t: t}, dir: t.TempDir()}
				r.open()
				defer func() { r.close() }()
				r.create("s", 2)
				then := f(t, r.endpoint)
				replace(r)
				time.Sleep(time.Nanosecond) // which is in the numbers
				r.create("s", 1)
				then(r.endpoint)
			})
		})
	}
}

// As AWS was recorded to: an iterator of a shard that the new stream has not is
// of no shard, and one of a shard that it has begins at that one's beginning.
func TestIteratorsOfAStreamThatWasMadeAgain(t *testing.T) {
	replaced(t, func(t *testing.T, e *endpoint) func(*endpoint) {
		var numbers []string
		for range 3 {
			numbers = append(numbers, e.ok("PutRecord", obj{"StreamName": "s", "PartitionKey": "k", "ExplicitHashKey": "0", "Data": []byte("old")})["SequenceNumber"].(string))
		}
		its := []string{
			e.iterator("s", "0", "LATEST"), e.iterator("s", "0", "TRIM_HORIZON"), e.iterator("s", "0", "AT_TIMESTAMP", obj{"Timestamp": time.Now().Unix()}),
			e.iterator("s", "0", "AFTER_SEQUENCE_NUMBER", obj{"StartingSequenceNumber": numbers[1]}),
			e.ok("GetRecords", obj{"ShardIterator": e.iterator("s", "0", "TRIM_HORIZON"), "Limit": 1})["NextShardIterator"].(string),
		}
		gone := e.iterator("s", "1", "LATEST")
		return func(e *endpoint) {
			e.fails("GetRecords", obj{"ShardIterator": gone}, codeNotFound, "Shard shardId-000000000001 in stream s under account 123456789012 does not exist")
			require.Empty(t, data(t, e.ok("GetRecords", obj{"ShardIterator": its[0]})))
			for _, d := range []string{"a", "b", "c", "d"} {
				e.put("s", "k", d)
			}
			for _, it := range its {
				out := e.ok("GetRecords", obj{"ShardIterator": it, "Limit": 4})
				require.Equal(t, []string{"a", "b", "c", "d"}, data(t, out))
				e.put("s", "k", "next")
				require.Contains(t, data(t, e.ok("GetRecords", obj{"ShardIterator": out["NextShardIterator"]})), "next")
			}
			for _, kind := range []string{"AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"} {
				for _, n := range numbers {
					e.fails("GetShardIterator", obj{"StreamName": "s", "ShardId": "0", "ShardIteratorType": kind, "StartingSequenceNumber": n}, codeInvalid,
						"StartingSequenceNumber "+n+" used in GetShardIterator on shard shardId-000000000000 in stream s under account 123456789012 is invalid because it did not come from this stream.")
				}
			}
		}
	})
}

// A page token says which stream it is of, whatever has its name now.
func TestPagesOfAStreamThatWasMadeAgain(t *testing.T) {
	replaced(t, func(t *testing.T, e *endpoint) func(*endpoint) {
		for _, name := range []string{"c", "d"} {
			e.ok("RegisterStreamConsumer", obj{"StreamARN": testARN + "s", "ConsumerName": name})
		}
		shards := e.ok("ListShards", obj{"StreamName": "s", "MaxResults": 1})["NextToken"]
		consumers := e.ok("ListStreamConsumers", obj{"StreamARN": testARN + "s", "MaxResults": 1})["NextToken"]
		return func(e *endpoint) {
			const text = "Stream s under account 123456789012 not found."
			e.fails("ListShards", obj{"NextToken": shards}, codeNotFound, text)
			e.fails("ListStreamConsumers", obj{"StreamARN": testARN + "s", "NextToken": consumers}, codeNotFound, text)
		}
	})
}

// Nothing of what a stream had is another one's that is made under its name, and
// the ARN of a consumer of the old one is none of the new one.
func TestBelongingsOfAStreamThatWasMadeAgain(t *testing.T) {
	replaced(t, func(t *testing.T, e *endpoint) func(*endpoint) {
		register := func(e *endpoint) string {
			return e.ok("RegisterStreamConsumer", obj{"StreamARN": testARN + "s", "ConsumerName": "c", "Tags": obj{"old": "1"}})["Consumer"].(obj)["ConsumerARN"].(string)
		}
		arns := []string{register(e)}
		e.ok("DeregisterStreamConsumer", obj{"ConsumerARN": arns[0]})
		arns = append(arns, register(e))
		for _, arn := range []string{testARN + "s", arns[1]} {
			e.ok("PutResourcePolicy", obj{"ResourceARN": arn, "Policy": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kinesis:DescribeStreamSummary","Resource":"` + arn + `"}]}`})
		}
		e.ok("AddTagsToStream", obj{"StreamName": "s", "Tags": obj{"old": "1"}})
		e.ok("StartStreamEncryption", obj{"StreamName": "s", "EncryptionType": "KMS", "KeyId": "k"})
		e.ok("EnableEnhancedMonitoring", obj{"StreamName": "s", "ShardLevelMetrics": []string{"ALL"}})
		e.ok("IncreaseStreamRetentionPeriod", obj{"StreamName": "s", "RetentionPeriodHours": 48})
		e.ok("UpdateMaxRecordSize", obj{"StreamARN": testARN + "s", "MaxRecordSizeInKiB": 2048})
		e.ok("UpdateStreamMode", obj{"StreamARN": testARN + "s", "StreamModeDetails": obj{"StreamMode": "ON_DEMAND"}})
		return func(e *endpoint) {
			d := e.ok("DescribeStreamSummary", obj{"StreamName": "s"})["StreamDescriptionSummary"].(obj)
			require.Equal(t, "NONE", d["EncryptionType"])
			require.Equal(t, []any{obj{"ShardLevelMetrics": []any{}}}, d["EnhancedMonitoring"])
			require.EqualValues(t, 24, d["RetentionPeriodHours"])
			require.EqualValues(t, 1024, d["MaxRecordSizeInKiB"])
			require.EqualValues(t, 0, d["ConsumerCount"])
			require.Equal(t, obj{"StreamMode": "PROVISIONED"}, d["StreamModeDetails"])
			require.Empty(t, e.ok("ListTagsForStream", obj{"StreamName": "s"})["Tags"])
			require.Equal(t, "{}", e.ok("GetResourcePolicy", obj{"ResourceARN": testARN + "s"})["Policy"])
			again := register(e)
			for range 2 {
				require.NotContains(t, arns, again)
				require.Equal(t, "{}", e.ok("GetResourcePolicy", obj{"ResourceARN": again})["Policy"])
				for _, old := range arns {
					e.fails("DescribeStreamConsumer", obj{"ConsumerARN": old}, codeNotFound, "Consumer "+old+" not found.")
					e.fails("SubscribeToShard", obj{"ConsumerARN": old, "ShardId": "0", "StartingPosition": obj{"Type": "LATEST"}}, codeNotFound, "Consumer "+old+" not found.")
					e.fails("ListTagsForResource", obj{"ResourceARN": old}, codeNotFound, "Consumer "+old+" not found.")
					e.fails("DeregisterStreamConsumer", obj{"ConsumerARN": old}, codeNotFound, "Consumer "+old+" not found.")
				}
				e.ok("DeregisterStreamConsumer", obj{"ConsumerARN": again})
				arns = append(arns, again)
				again = register(e)
			}
		}
	})
}

// The ARN of a consumer is not given out again when the clock was ahead either,
// and the date of a consumer is the time at which it was registered.
func TestStampsOfConsumers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(t, nil)
		e.create("s", 1)
		seen := map[string]bool{}
		for _, offset := range []time.Duration{0, 0, time.Hour, 0, time.Hour, 0, 0, -time.Hour, 0} {
			e.h.SetClockOffset(offset)
			con := e.ok("RegisterStreamConsumer", obj{"StreamARN": testARN + "s", "ConsumerName": "c"})["Consumer"].(obj)
			require.False(t, seen[con["ConsumerARN"].(string)])
			seen[con["ConsumerARN"].(string)] = true
			require.EqualValues(t, time.Now().Add(offset).Unix(), con["ConsumerCreationTimestamp"])
			e.ok("DeregisterStreamConsumer", obj{"ConsumerARN": con["ConsumerARN"]})
		}
		other := e.ok("RegisterStreamConsumer", obj{"StreamARN": testARN + "s", "ConsumerName": "d"})["Consumer"].(obj)["ConsumerARN"]
		require.Equal(t, testARN+"s/consumer/"+consumerSuffix("d", time.Now().Unix()), other, "that of another consumer is its own")
		time.Sleep(2 * time.Hour)
		e.ok("RegisterStreamConsumer", obj{"StreamARN": testARN + "s", "ConsumerName": "c"})
		e.ok("DeregisterStreamConsumer", obj{"StreamARN": testARN + "s", "ConsumerName": "c"})
		require.LessOrEqual(t, len(e.h.svc.streams.stamps.stored.Recent), 1, "what cannot come again is forgotten")
	})
}
