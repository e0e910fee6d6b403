package kinesisapi

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
	"github.com/shardlog/shardlog/stream"
)

// event is a frame of an event stream, read strictly.
type event struct {
	headers map[string]string
	payload []byte
	at      time.Time
}

// readFrame reads one frame and checks both checksums.
func readFrame(r io.Reader) (event, error) {
	prelude := make([]byte, 12)
	if _, err := io.ReadFull(r, prelude); err != nil {
		return event{}, err
	}
	if crc32.ChecksumIEEE(prelude[:8]) != binary.BigEndian.Uint32(prelude[8:]) {
		return event{}, awswire.ErrSyntax
	}
	total, headers := binary.BigEndian.Uint32(prelude), binary.BigEndian.Uint32(prelude[4:])
	rest := make([]byte, total-12)
	if _, err := io.ReadFull(r, rest); err != nil {
		return event{}, err
	}
	sum := crc32.ChecksumIEEE(append(prelude, rest[:len(rest)-4]...))
	if sum != binary.BigEndian.Uint32(rest[len(rest)-4:]) {
		return event{}, awswire.ErrSyntax
	}
	e := event{headers: map[string]string{}, payload: rest[headers : len(rest)-4], at: time.Now()}
	for h := rest[:headers]; len(h) > 0; {
		name := string(h[1 : 1+h[0]])
		h = h[1+h[0]:]
		if h[0] != headerText {
			return event{}, awswire.ErrSyntax
		}
		n := binary.BigEndian.Uint16(h[1:])
		e.headers[name] = string(h[3 : 3+n])
		h = h[3+n:]
	}
	return e, nil
}

// pipeWriter is a ResponseWriter whose body is a pipe.
type pipeWriter struct {
	header http.Header
	status chan int
	w      *io.PipeWriter
}

func (p *pipeWriter) Header() http.Header         { return p.header }
func (p *pipeWriter) WriteHeader(status int)      { p.status <- status }
func (p *pipeWriter) Write(b []byte) (int, error) { return p.w.Write(b) }
func (p *pipeWriter) Flush()                      {}

// open is a subscription of a test.
type open struct {
	t      testing.TB
	body   *io.PipeReader
	status int
	cancel context.CancelFunc
	done   chan struct{}
}

// subscribe opens one; the caller hangs up.
func (e *endpoint) subscribe(arn, shard string, from obj) *open {
	e.t.Helper()
	body, err := json.Marshal(obj{"ConsumerARN": arn, "ShardId": shard, "StartingPosition": from})
	require.NoError(e.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	o := &open{t: e.t, body: r, cancel: cancel, done: make(chan struct{})}
	pw := &pipeWriter{http.Header{}, make(chan int, 1), w}
	go func() {
		defer close(o.done)
		e.h.ServeHTTP(pw, newRequest("SubscribeToShard", typeJSON, body).WithContext(ctx))
		_ = w.Close()
	}()
	o.status = <-pw.status
	return o
}

func (o *open) hangUp() {
	o.cancel()
	_ = o.body.Close()
	<-o.done
}

// next returns the next event; ok is false at the end of the stream.
func (o *open) next() (event, obj, bool) {
	o.t.Helper()
	ev, err := readFrame(o.body)
	if err == io.EOF {
		return event{}, nil, false
	}
	require.NoError(o.t, err)
	out := obj{}
	require.NoError(o.t, json.Unmarshal(ev.payload, &out))
	return ev, out, true
}

// inBubble runs a test with a handler in a synctest bubble.
func inBubble(t *testing.T, opts *Options, f func(e *endpoint)) {
	synctest.Test(t, func(t *testing.T) {
		db, err := stream.Open("", &stream.Options{InMemory: true})
		require.NoError(t, err)
		defer db.Close()
		h, err := NewHandler(db, opts)
		require.NoError(t, err)
		defer h.Close()
		f(&endpoint{t, h, db})
	})
}

func (e *endpoint) register(stream, name string) string {
	e.t.Helper()
	out := e.ok("RegisterStreamConsumer", obj{"StreamARN": testARN + stream, "ConsumerName": name})
	return out["Consumer"].(obj)["ConsumerARN"].(string)
}

func TestSubscription(t *testing.T) {
	inBubble(t, nil, func(e *endpoint) {
		t := e.t
		e.create("s", 1)
		e.put("s", "k", "before")
		o := e.subscribe(e.register("s", "c"), "0", obj{"Type": "TRIM_HORIZON"})
		defer o.hangUp()
		require.Equal(t, 200, o.status)
		ev, _, _ := o.next()
		require.Equal(t, map[string]string{":message-type": "event", ":event-type": "initial-response", ":content-type": typeJSON}, ev.headers)
		ev, out, _ := o.next()
		require.Equal(t, map[string]string{":message-type": "event", ":event-type": "SubscribeToShardEvent", ":content-type": typeJSON}, ev.headers)
		require.Equal(t, []string{"before"}, data(t, out))
		last := out["ContinuationSequenceNumber"].(string)
		// Events come though nothing else does, and their numbers grow.
		for range 5 {
			before := time.Now()
			_, out, _ = o.next()
			require.Empty(t, data(t, out))
			require.LessOrEqual(t, time.Since(before), 5*time.Second)
			require.Greater(t, out["ContinuationSequenceNumber"].(string), last)
			last = out["ContinuationSequenceNumber"].(string)
		}
		e.put("s", "k", "during")
		before := time.Now()
		_, out, _ = o.next()
		require.Equal(t, []string{"during"}, data(t, out))
		require.Zero(t, time.Since(before), "pushed at once")
		require.Greater(t, out["ContinuationSequenceNumber"].(string), last)
		// Reading on from a number of an idle stream misses nothing.
		got := data(t, e.ok("GetRecords", obj{"ShardIterator": e.iterator("s", "0", "AFTER_SEQUENCE_NUMBER", obj{"StartingSequenceNumber": last})}))
		require.Equal(t, []string{"during"}, got)
		e.ok("SplitShard", obj{"StreamName": "s", "ShardToSplit": "0", "NewStartingHashKey": "1000"})
		_, out, _ = o.next()
		require.Len(t, out["ChildShards"], 2)
		require.NotContains(t, out, "ContinuationSequenceNumber")
		_, _, ok := o.next()
		require.False(t, ok)
	})
}

func TestLifeOfSubscriptions(t *testing.T) {
	inBubble(t, nil, func(e *endpoint) {
		t := e.t
		e.create("s", 2)
		arn := e.register("s", "c")
		began := time.Now()
		first := e.subscribe(arn, "0", obj{"Type": "LATEST"})
		defer first.hangUp()
		_, _, _ = first.next()
		again := obj{"ConsumerARN": arn, "ShardId": "shardId-000000000000", "StartingPosition": obj{"Type": "LATEST"}}
		e.fails("SubscribeToShard", again, codeInUse, e.message("SubscribeToShard", again))
		other := e.subscribe(arn, "1", obj{"Type": "LATEST"})
		defer other.hangUp()
		require.Equal(t, 200, other.status, "another shard is another subscription")
		_, _, _ = other.next()
		time.Sleep(6 * time.Second)
		second := e.subscribe(arn, "0", obj{"Type": "LATEST"})
		defer second.hangUp()
		require.Equal(t, 200, second.status)
		for ok := true; ok; _, _, ok = first.next() {
		}
		require.Less(t, time.Since(began), 20*time.Second, "it was taken over")
		took := time.Now()
		for ok := true; ok; _, _, ok = second.next() {
		}
		require.InDelta(t, 300, time.Since(took).Seconds(), 5, "it lasts five minutes")
	})
}

func TestEndsOfSubscriptions(t *testing.T) {
	for name, c := range map[string]struct {
		end       func(e *endpoint, arn string)
		exception bool
	}{
		"the stream is deleted": {func(e *endpoint, _ string) {
			e.ok("DeleteStream", obj{"StreamName": "s", "EnforceConsumerDeletion": true})
		}, true},
		"the stream is deleted in the process": {func(e *endpoint, _ string) { require.NoError(e.t, e.db.Delete(e.t.Context(), "s")) }, true},
		"the consumer is deregistered":         {func(e *endpoint, arn string) { e.ok("DeregisterStreamConsumer", obj{"ConsumerARN": arn}) }, true},
		"the endpoint is closed":               {func(e *endpoint, _ string) { go e.h.Close() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(e *endpoint) {
				e.create("s", 1)
				arn := e.register("s", "c")
				o := e.subscribe(arn, "0", obj{"Type": "LATEST"})
				defer o.hangUp()
				_, _, _ = o.next()
				_, _, _ = o.next()
				synctest.Wait()
				c.end(e, arn)
				ev, _, ok := o.next()
				require.Equal(e.t, c.exception, ok)
				if ok {
					require.Equal(e.t, "exception", ev.headers[":message-type"])
					require.Equal(e.t, codeNotFound, ev.headers[":exception-type"])
					_, _, ok = o.next()
					require.False(e.t, ok)
				}
			})
		})
	}
}

func TestRefusedSubscriptions(t *testing.T) {
	e := newEndpoint(t, &Options{CreateTime: time.Minute})
	e.create("s", 1)
	e.h.SetClockOffset(2 * time.Minute)
	arn := e.register("s", "c")
	in := func(arn, shard string, from obj) obj {
		return obj{"ConsumerARN": arn, "ShardId": shard, "StartingPosition": from}
	}
	latest := obj{"Type": "LATEST"}
	created := arn[strings.LastIndex(arn, ":")+1:]
	e.fails("SubscribeToShard", in(arn, "0", latest), codeInUse, "Consumer c with creation timestamp "+created+" under stream s and account 123456789012 is not in ACTIVE status.")
	e.h.SetClockOffset(4 * time.Minute)
	e.fails("SubscribeToShard", in(arn, "7", latest), codeNotFound, "Shard shardId-000000000007 in stream s under account 123456789012 does not exist")
	e.fails("SubscribeToShard", in(arn+"9", "0", latest), codeNotFound, "Consumer "+arn+"9 not found.")
	e.fails("SubscribeToShard", in(testARN+"t/consumer/c:1", "0", latest), codeNotFound, "Stream t under account 123456789012 not found.")
	e.fails("SubscribeToShard", in(arn, "0", obj{"Type": "AT_TIMESTAMP"}), codeInvalid, "Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. Current request has no timestamp parameter.")
	e.fails("SubscribeToShard", in(arn, "0", obj{"Type": "AT_SEQUENCE_NUMBER", "SequenceNumber": "5"}), codeInvalid,
		"Invalid StartingSequenceNumber. It encodes shardId-000000000005, while it was used in a call to a shard with shardId-000000000000")
}

func TestSubscriptionInCBOR(t *testing.T) {
	inBubble(t, nil, func(e *endpoint) {
		t := e.t
		e.create("s", 1)
		e.put("s", "k", "one")
		arn := e.register("s", "c")
		e.ok("SplitShard", obj{"StreamName": "s", "ShardToSplit": "0", "NewStartingHashKey": "1000"})
		w := e.do(newRequest("SubscribeToShard", typeCBOR, toCBOR(obj{"ConsumerARN": arn, "ShardId": "0", "StartingPosition": obj{"Type": "TRIM_HORIZON"}})))
		require.Equal(t, "application/vnd.amazon.eventstream", w.Header().Get("Content-Type"))
		body := bytes.NewReader(w.Body.Bytes())
		ev, err := readFrame(body)
		require.NoError(t, err)
		require.Equal(t, typeCBOR, ev.headers[":content-type"])
		require.Equal(t, obj{}, fromCBOR(t, ev.payload))
		ev, err = readFrame(body)
		require.NoError(t, err)
		out := fromCBOR(t, ev.payload).(obj)
		require.Equal(t, []byte("one"), out["Records"].([]any)[0].(obj)["Data"])
		require.Len(t, out["ChildShards"], 2)
		_, err = readFrame(body)
		require.ErrorIs(t, err, io.EOF)
	})
}

func TestSubscriptionsHaveTheirOwnThroughput(t *testing.T) {
	inBubble(t, &Options{Limits: stream.KinesisLimits()}, func(e *endpoint) {
		e.create("s", 1)
		o := e.subscribe(e.register("s", "c"), "0", obj{"Type": "LATEST"})
		defer o.hangUp()
		_, _, _ = o.next()
		_, _, _ = o.next()
		for range 20 {
			e.put("s", "k", "x")
			_, out, _ := o.next()
			require.Len(e.t, data(e.t, out), 1)
		}
		it := e.iterator("s", "0", "TRIM_HORIZON")
		for range 5 {
			e.ok("GetRecords", obj{"ShardIterator": it})
		}
	})
}

func TestSubscriptionsArePacedEachForItself(t *testing.T) {
	inBubble(t, &Options{Limits: stream.Limits{ReadBytes: 2 << 20}}, func(e *endpoint) {
		e.create("s", 1)
		const records = 40
		for range records {
			e.put("s", "k", strings.Repeat("x", 256<<10-1))
		}
		var wg sync.WaitGroup
		for _, name := range []string{"a", "b"} {
			o := e.subscribe(e.register("s", name), "0", obj{"Type": "TRIM_HORIZON"})
			wg.Go(func() {
				defer o.hangUp()
				began := time.Now()
				for got := 0; got < records; {
					_, out, ok := o.next()
					require.True(e.t, ok)
					if list, ok := out["Records"].([]any); ok {
						got += len(list)
					}
				}
				// Two of the ten MiB come in the first burst.
				require.InDelta(e.t, 4*time.Second, time.Since(began), float64(time.Second/4))
			})
		}
		wg.Wait()
	})
}

func TestPacedSubscriptionsGetHeartbeats(t *testing.T) {
	inBubble(t, &Options{Limits: stream.Limits{ReadBytes: 32 << 10}}, func(e *endpoint) {
		e.create("s", 1)
		e.put("s", "k", strings.Repeat("x", 1<<20-1)) // 32 seconds' worth
		e.put("s", "k", "y")
		o := e.subscribe(e.register("s", "a"), "0", obj{"Type": "TRIM_HORIZON"})
		defer o.hangUp()
		began := time.Now()
		for events, last := 0, began; ; events++ {
			_, out, ok := o.next()
			require.True(e.t, ok)
			require.LessOrEqual(e.t, time.Since(last), 5*time.Second)
			last = time.Now()
			if list, ok := out["Records"].([]any); ok && len(list) > 0 && list[0].(obj)["Data"] == "eQ==" {
				require.Greater(e.t, events, 6)
				break
			}
		}
		require.InDelta(e.t, 31*time.Second, time.Since(began), float64(time.Second))
	})
}

// TestFrames reads what was written, checksums and all.
func TestFrames(t *testing.T) {
	b, f := awswire.BeginEvent(nil, "x", &awswire.Protocol{Media: "y"})
	b = f.End(append(b, "payload"...))
	ev, err := readFrame(bytes.NewReader(b))
	require.NoError(t, err)
	require.Equal(t, map[string]string{":message-type": "event", ":event-type": "x", ":content-type": "y"}, ev.headers)
	require.Equal(t, "payload", string(ev.payload))
	b = awswire.AppendException(b, invalid("bad %d", 1), awswire.JSON11)
	r := bytes.NewReader(b)
	_, err = readFrame(r)
	require.NoError(t, err)
	ev, err = readFrame(r)
	require.NoError(t, err)
	require.Equal(t, `{"message":"bad 1"}`, string(ev.payload))
	require.Equal(t, codeInvalid, ev.headers[":exception-type"])
}

func TestConsumers(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 1)
	arn := e.register("s", "a")
	require.Regexp(t, `^arn:aws:kinesis:eu-west-1:123456789012:stream/s/consumer/a:\d{10}$`, arn)
	in := obj{"StreamARN": testARN + "s", "ConsumerName": "a"}
	e.fails("RegisterStreamConsumer", in, codeInUse, "Consumer a under stream s already exists for account 123456789012.")
	for _, by := range []obj{{"ConsumerARN": arn}, {"StreamARN": testARN + "s", "ConsumerName": "a"}, {"ConsumerARN": arn, "StreamARN": testARN + "s"}} {
		d := e.ok("DescribeStreamConsumer", by)["ConsumerDescription"].(obj)
		require.Equal(t, []any{"a", arn, "ACTIVE", testARN + "s"}, []any{d["ConsumerName"], d["ConsumerARN"], d["ConsumerStatus"], d["StreamARN"]})
	}
	for _, by := range []obj{{}, {"ConsumerName": "a"}, {"StreamARN": testARN + "s"}, {"ConsumerARN": arn, "StreamARN": testARN + "t"}} {
		e.fails("DescribeStreamConsumer", by, codeInvalid, e.message("DescribeStreamConsumer", by))
	}
	for i := range maxConsumers - 1 {
		e.register("s", "b"+string(rune('a'+i)))
	}
	in["ConsumerName"] = "z"
	e.fails("RegisterStreamConsumer", in, codeLimit, e.message("RegisterStreamConsumer", in))
	var names []any
	list := obj{"StreamARN": testARN + "s", "MaxResults": 7}
	for {
		out := e.ok("ListStreamConsumers", list)
		for _, c := range out["Consumers"].([]any) {
			names = append(names, c.(obj)["ConsumerName"])
		}
		if out["NextToken"] == nil {
			break
		}
		list["NextToken"] = out["NextToken"]
	}
	require.Len(t, names, maxConsumers)
	e.ok("TagResource", obj{"ResourceARN": arn, "Tags": obj{"k": "v"}})
	require.Equal(t, []any{obj{"Key": "k", "Value": "v"}}, e.ok("ListTagsForResource", obj{"ResourceARN": arn})["Tags"])
	e.ok("UntagResource", obj{"ResourceARN": arn, "TagKeys": []string{"k"}})
	require.Empty(t, e.ok("ListTagsForResource", obj{"ResourceARN": arn})["Tags"])
	e.ok("DeregisterStreamConsumer", obj{"ConsumerARN": arn})
	e.fails("DescribeStreamConsumer", obj{"ConsumerARN": arn}, codeNotFound, "Consumer "+arn+" not found.")
	e.fails("ListTagsForResource", obj{"ResourceARN": arn}, codeNotFound, "Consumer "+arn+" not found.")
	require.NotEqual(t, arn, e.register("s", "a"), "another creation is another ARN")
	e.fails("DeleteStream", obj{"StreamName": "s"}, codeInUse, e.message("DeleteStream", obj{"StreamName": "s"}))
	e.ok("DeleteStream", obj{"StreamName": "s", "EnforceConsumerDeletion": true})
}

func TestSequenceNumbersOfContinuationsStayInTheirShard(t *testing.T) {
	inBubble(t, nil, func(e *endpoint) {
		e.create("s", 3)
		arn := e.register("s", "c")
		for _, shard := range []string{"0", "1", "2"} {
			o := e.subscribe(arn, shard, obj{"Type": "LATEST"})
			_, _, _ = o.next()
			_, out, _ := o.next()
			seq, err := shardlog.ParseSequenceNumber(out["ContinuationSequenceNumber"].(string))
			require.NoError(e.t, err)
			index, _ := shardIndex(shard)
			got, _ := seq.Shard()
			require.Equal(e.t, index, got)
			e.ok("GetShardIterator", obj{"StreamName": "s", "ShardId": shard, "ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": seq.String()})
			o.hangUp()
		}
	})
}
