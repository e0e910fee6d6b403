package kinesisapi

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/internal/awswire"
)

// What an endpoint gave out while its clock was ahead is good, or expired, when
// the clock is right again; and so is what it gave out before it was set back.
func TestTokensOfAnotherTimeAreGoodOrExpired(t *testing.T) {
	for _, offsets := range [][]time.Duration{{301 * time.Second, 0}, {0, -time.Hour}, {time.Hour, 0, -time.Hour}, {24 * time.Hour, time.Second, 2 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			e := newEndpoint(t, nil)
			e.h.SetClockOffset(offsets[0])
			for _, name := range []string{"a", "s"} {
				e.create(name, 2)
				for _, con := range []string{"c", "d"} {
					e.ok("RegisterStreamConsumer", obj{"StreamARN": testARN + name, "ConsumerName": con})
				}
			}
			number := e.put("s", "k", "kept")
			shard := number["ShardId"].(string)
			its := []string{
				e.iterator("s", shard, "TRIM_HORIZON"),
				e.iterator("s", shard, "AT_SEQUENCE_NUMBER", obj{"StartingSequenceNumber": number["SequenceNumber"]}),
				e.iterator("s", shard, "AT_TIMESTAMP", obj{"Timestamp": time.Now().Add(min(0, offsets[0])).Unix() - 1}),
			}
			streams := obj{"NextToken": e.ok("ListStreams", obj{"Limit": 1})["NextToken"]}
			shards := obj{"NextToken": e.ok("ListShards", obj{"StreamName": "s", "MaxResults": 1})["NextToken"]}
			consumers := obj{"StreamARN": testARN + "s", "NextToken": e.ok("ListStreamConsumers", obj{"StreamARN": testARN + "s", "MaxResults": 1})["NextToken"]}
			read := func() {
				t.Helper()
				for _, it := range its {
					require.Equal(t, []string{"kept"}, data(t, e.ok("GetRecords", obj{"ShardIterator": it})))
				}
				require.Equal(t, []any{"s"}, e.ok("ListStreams", streams)["StreamNames"])
				require.Len(t, e.ok("ListShards", shards)["Shards"], 1)
				require.Len(t, e.ok("ListStreamConsumers", consumers)["Consumers"], 1)
			}
			for _, d := range offsets[1:] {
				e.h.SetClockOffset(d)
				read()
			}
			// They do not live longer because the clock was ahead.
			time.Sleep(299 * time.Second)
			read()
			time.Sleep(2 * time.Second)
			for _, it := range its {
				require.Contains(t, e.message("GetRecords", obj{"ShardIterator": it}), "Iterator expired. The iterator was created at time ")
			}
			for op, in := range map[string]obj{"ListStreams": streams, "ListShards": shards, "ListStreamConsumers": consumers} {
				e.fails(op, in, "ExpiredNextTokenException", "NextToken has expired.")
			}
		})
	}
}

// Records have the machine's time. A client that asks for it is not refused
// because the clock of the endpoint was set back, and one that asks for the time
// of a clock that is ahead gets the records that come next.
func TestTimesOfRecordsAreNotInTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(t, nil)
		e.create("s", 1)
		e.put("s", "k", "first")
		arrival := e.ok("GetRecords", obj{"ShardIterator": e.iterator("s", "0", "TRIM_HORIZON")})["Records"].([]any)[0].(obj)["ApproximateArrivalTimestamp"]
		e.h.SetClockOffset(-time.Hour)
		require.Equal(t, []string{"first"}, data(t, e.ok("GetRecords", obj{"ShardIterator": e.iterator("s", "0", "AT_TIMESTAMP", obj{"Timestamp": arrival})})))
		for _, kind := range []string{"AT_TIMESTAMP", "FROM_TIMESTAMP"} {
			require.Len(t, e.ok("ListShards", obj{"StreamName": "s", "ShardFilter": obj{"Type": kind, "Timestamp": arrival}})["Shards"], 1)
		}
		e.h.SetClockOffset(time.Hour)
		time.Sleep(time.Second)
		it := e.iterator("s", "0", "AT_TIMESTAMP", obj{"Timestamp": time.Now().Add(time.Hour).Unix()})
		e.put("s", "k", "second")
		require.Equal(t, []string{"second"}, data(t, e.ok("GetRecords", obj{"ShardIterator": it})))
		e.fails("ListShards", obj{"StreamName": "s", "ShardFilter": obj{"Type": "AT_TIMESTAMP", "Timestamp": time.Now().Add(time.Hour + time.Second).Unix()}},
			codeInvalid, "The timestamp of ShardFilter cannot be in the future.")
	})
}

// Retention follows the machine's clock, and so does what lists leave out.
func TestShardsAreNotTrimmedByTheClockOfTheEndpoint(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 1)
	e.put("s", "k", "kept")
	e.ok("UpdateShardCount", obj{"StreamName": "s", "TargetShardCount": 2, "ScalingType": "UNIFORM_SCALING"})
	e.h.SetClockOffset(25 * time.Hour)
	require.Len(t, e.ok("ListShards", obj{"StreamName": "s", "ShardFilter": obj{"Type": "FROM_TRIM_HORIZON"}})["Shards"], 3)
	require.Equal(t, []string{"kept"}, data(t, e.ok("GetRecords", obj{"ShardIterator": e.iterator("s", "0", "TRIM_HORIZON")})))
}

// A state that began while the clock was ahead lasts as long as any other, and
// one that is over does not come back with the time.
func TestStatesOfAnotherTimeEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(t, &Options{CreateTime: 10 * time.Second, UpdateTime: 10 * time.Second, DeleteTime: 10 * time.Second})
		status := func() string {
			return e.ok("DescribeStreamSummary", obj{"StreamName": "s"})["StreamDescriptionSummary"].(obj)["StreamStatus"].(string)
		}
		consumer := func() string {
			return e.ok("DescribeStreamConsumer", obj{"StreamARN": testARN + "s", "ConsumerName": "c"})["ConsumerDescription"].(obj)["ConsumerStatus"].(string)
		}
		e.h.SetClockOffset(time.Hour)
		e.create("s", 1)
		e.h.SetClockOffset(0)
		require.Equal(t, statusCreating, status())
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Equal(t, statusActive, status())
		e.ok("StartStreamEncryption", obj{"StreamName": "s", "EncryptionType": "KMS", "KeyId": "k"})
		e.h.SetClockOffset(time.Minute)
		require.Equal(t, statusActive, status())
		e.ok("RegisterStreamConsumer", obj{"StreamARN": testARN + "s", "ConsumerName": "c"})
		e.h.SetClockOffset(2 * time.Minute)
		require.Equal(t, statusActive, consumer())
		e.h.SetClockOffset(0)
		require.Equal(t, statusActive, status())
		require.Equal(t, statusActive, consumer())
		e.h.SetClockOffset(time.Hour)
		e.ok("DeregisterStreamConsumer", obj{"StreamARN": testARN + "s", "ConsumerName": "c"})
		e.h.SetClockOffset(-time.Hour)
		require.Equal(t, statusDeleting, consumer())
		time.Sleep(10 * time.Second)
		e.fails("DescribeStreamConsumer", obj{"StreamARN": testARN + "s", "ConsumerName": "c"}, codeNotFound, "Consumer c under stream s not found.")
	})
}

// The rates of operations, and how often a day some may be called, are the same
// after the clock was ahead.
func TestBudgetsOfAnotherTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(t, &Options{ControlLimits: true})
		e.h.SetClockOffset(time.Hour)
		for range 5 {
			e.ok("ListStreams", obj{})
		}
		_, out := e.send("ListStreams", obj{})
		require.Equal(t, codeLimit, out["__type"])
		e.h.SetClockOffset(0)
		_, out = e.send("ListStreams", obj{})
		require.Equal(t, codeLimit, out["__type"])
		time.Sleep(time.Second)
		e.ok("ListStreams", obj{})

		mode := func(m string) obj {
			return obj{"StreamARN": testARN + "s", "StreamModeDetails": obj{"StreamMode": m}}
		}
		e.h.SetClockOffset(48 * time.Hour)
		e.create("s", 1)
		e.ok("UpdateStreamMode", mode(modeOnDemand))
		e.ok("UpdateStreamMode", mode(modeProvisioned))
		e.ok("UpdateAccountSettings", obj{"MinimumThroughputBillingCommitment": obj{"Status": "ENABLED"}})
		e.h.SetClockOffset(0)
		_, out = e.send("UpdateStreamMode", mode(modeOnDemand))
		require.Equal(t, codeLimit, out["__type"])
		time.Sleep(24 * time.Hour)
		e.ok("UpdateStreamMode", mode(modeOnDemand))
		e.ok("UpdateAccountSettings", obj{"MinimumThroughputBillingCommitment": obj{"Status": "DISABLED"}})
		require.Equal(t, "DISABLED", e.ok("DescribeAccountSettings", obj{})["MinimumThroughputBillingCommitment"].(obj)["Status"])
	})
}

// A subscription that began while the clock was ahead can be taken over five
// seconds later and ends after its life, both by the machine's clock.
func TestSubscriptionsOfAnotherTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(t, nil)
		e.create("s", 1)
		clock := &awswire.Clock{}
		s, err := e.h.svc.streams.find(t.Context(), awswire.Scope{Account: testAccount, Region: "eu-west-1"}, "s", clock)
		require.NoError(t, err)
		_, cancel := context.WithCancelCause(t.Context())
		key := subscriptionKey{"c:1", 0}
		clock.SetOffset(time.Hour)
		_, ok := s.subscriptions.enter(key, clock, cancel)
		require.True(t, ok)
		clock.SetOffset(0)
		_, ok = s.subscriptions.enter(key, clock, cancel)
		require.False(t, ok, "its beginning is no second ago")
		time.Sleep(resubscribe)
		_, ok = s.subscriptions.enter(key, clock, cancel)
		require.True(t, ok)
		clock.SetOffset(resubscribe)
		_, ok = s.subscriptions.enter(key, clock, cancel)
		require.True(t, ok)
		clock.SetOffset(-time.Hour)
		_, ok = s.subscriptions.enter(key, clock, cancel)
		require.False(t, ok)
	})
}

// Moments that are stored mean the same in another process.
func TestMomentsAreStored(t *testing.T) {
	clock := &awswire.Clock{}
	clock.SetOffset(48 * time.Hour)
	set := settings{Scalings: []awswire.Moment{clock.Moment()}}
	text, err := json.Marshal(&set)
	require.NoError(t, err)
	var again settings
	require.NoError(t, json.Unmarshal(text, &again))
	clock.SetOffset(0)
	require.Len(t, lastDay(again.Scalings, clock), 1)
	clock.SetOffset(73 * time.Hour)
	require.Empty(t, lastDay(again.Scalings, clock))
}

// An SDK whose signature is refused for its date sets its clock by the answer's.
func TestAnswersHaveTheDateOfTheClock(t *testing.T) {
	e := newEndpoint(t, nil)
	e.h.SetClockOffset(48 * time.Hour)
	w := e.do(newRequest("ListStreams", typeJSON, []byte("{}")))
	date, err := http.ParseTime(w.Header().Get("Date"))
	require.NoError(t, err)
	require.True(t, date.After(time.Now().Add(47*time.Hour)))
}
