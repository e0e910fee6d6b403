package kinesisapi

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// encryptions returns EncryptionType of the records of a shard by their data, as
// GetRecords shows them; "" for none.
func encryptions(e *endpoint, name, shard string) map[string]string {
	e.t.Helper()
	out := e.ok("GetRecords", obj{"ShardIterator": e.iterator(name, shard, "TRIM_HORIZON")})
	all := map[string]string{}
	for i, d := range data(e.t, out) {
		kind, _ := out["Records"].([]any)[i].(obj)["EncryptionType"].(string)
		all[d] = kind
	}
	return all
}

func (e *endpoint) encrypt(name string, on bool) {
	e.t.Helper()
	op := "StopStreamEncryption"
	if on {
		op = "StartStreamEncryption"
	}
	e.ok(op, obj{"StreamName": name, "EncryptionType": "KMS", "KeyId": "alias/k"})
}

// The type of a record is what held when it was written, however often it was
// changed since, across reshards and after the database was opened again.
func TestEncryptionTypeOfRecords(t *testing.T) {
	dir := t.TempDir()
	open := func() (*endpoint, func()) {
		db, err := stream.Open(dir, nil)
		require.NoError(t, err)
		h, err := NewHandler(db, nil)
		require.NoError(t, err)
		return &endpoint{t, h, db}, func() {
			require.NoError(t, h.Close())
			require.NoError(t, db.Close())
		}
	}
	e, closeAll := open()
	e.create("s", 1)
	want := map[string]map[string]string{"0": {}, "1": {}, "2": {}}
	put := func(shard, key, kind string) {
		t.Helper()
		text := fmt.Sprintf("%s-%d", shard, len(want[shard]))
		out := e.ok("PutRecord", obj{"StreamName": "s", "PartitionKey": "k", "ExplicitHashKey": key, "Data": []byte(text)})
		require.Equal(t, shardID(uint32(shard[0]-'0')), out["ShardId"])
		shown, _ := out["EncryptionType"].(string)
		require.Equal(t, kind, shown, "the answer of PutRecord")
		want[shard][text] = kind
	}
	check := func() {
		t.Helper()
		for shard, records := range want {
			if len(records) > 0 {
				require.Equal(t, records, encryptions(e, "s", shard))
			}
		}
	}
	put("0", "0", "")
	put("0", "0", "")
	e.encrypt("s", true)
	check()
	put("0", "0", "KMS")
	e.ok("SplitShard", obj{"StreamName": "s", "ShardToSplit": "0", "NewStartingHashKey": "5"})
	put("1", "0", "KMS")
	check()
	e.encrypt("s", false)
	put("1", "0", "")
	put("2", "9", "")
	closeAll()
	e, closeAll = open()
	check()
	require.Equal(t, "NONE", e.ok("DescribeStreamSummary", obj{"StreamName": "s"})["StreamDescriptionSummary"].(obj)["EncryptionType"])
	e.encrypt("s", true)
	e.encrypt("s", true)
	put("2", "9", "KMS")
	check()
	out := e.ok("PutRecords", obj{"StreamName": "s", "Records": []obj{{"PartitionKey": "k", "Data": []byte("2-2"), "ExplicitHashKey": "9"}}})
	require.Equal(t, "KMS", out["EncryptionType"])
	want["2"]["2-2"] = "KMS"
	check()
	closeAll()
}

// What the answer of a put says of its record is what is read later, also while
// the setting changes.
func TestEncryptionTypeWhileItChanges(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 1)
	said := make([]map[string]string, 4)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range said {
		said[i] = map[string]string{}
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				text := fmt.Sprintf("%d-%d", i, n)
				body, _ := json.Marshal(obj{"StreamName": "s", "PartitionKey": "k", "Data": []byte(text)}) // strings always encode
				var out struct{ EncryptionType string }
				if err := json.Unmarshal(e.do(newRequest("PutRecord", typeJSON, body)).Body.Bytes(), &out); err != nil {
					t.Error(err)
					return
				}
				said[i][text] = out.EncryptionType
			}
		})
	}
	for i := range 40 {
		e.encrypt("s", i%2 == 0)
	}
	close(stop)
	wg.Wait()
	read := map[string]string{}
	it := e.iterator("s", "0", "TRIM_HORIZON")
	for {
		out := e.ok("GetRecords", obj{"ShardIterator": it})
		for i, d := range data(t, out) {
			read[d], _ = out["Records"].([]any)[i].(obj)["EncryptionType"].(string)
		}
		if it = out["NextShardIterator"].(string); out["MillisBehindLatest"].(float64) == 0 {
			break
		}
	}
	for _, all := range said {
		for text, kind := range all {
			require.Equal(t, kind, read[text], text)
		}
	}
}

// SubscribeToShard shows what GetRecords does.
func TestEncryptionTypeInEvents(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 1)
	e.put("s", "k", "before")
	e.encrypt("s", true)
	e.put("s", "k", "after")
	sub := e.subscribe(e.register("s", "c"), "0", obj{"Type": "TRIM_HORIZON"})
	defer sub.hangUp()
	var got []any
	for len(got) < 2 {
		_, out, ok := sub.next()
		require.True(t, ok)
		list, _ := out["Records"].([]any) // none in the initial response
		for _, r := range list {
			got = append(got, r.(obj)["EncryptionType"])
		}
	}
	require.Equal(t, []any{nil, "KMS"}, got)
}

// A history that nothing was written in does not grow, and what is older than
// all records goes.
func TestEncryptionHistoryIsBounded(t *testing.T) {
	e := newEndpoint(t, nil)
	e.create("s", 2)
	changes := func() int {
		st, err := e.db.Stream(t.Context(), "s")
		require.NoError(t, err)
		return len(e.h.svc.streams.stateOf(st).encryption.Load().changes)
	}
	for range 50 {
		e.encrypt("s", true)
		e.encrypt("s", false)
	}
	require.LessOrEqual(t, changes(), 1)
	for i := range 6 {
		e.put("s", "k", "x")
		e.encrypt("s", i%2 == 0)
	}
	require.Equal(t, 6, changes())
	st, err := e.db.Stream(t.Context(), "s")
	require.NoError(t, err)
	for _, id := range []string{shardID(0), shardID(1)} {
		h, err := st.Shard(id)
		require.NoError(t, err)
		end, err := st.Resolve(t.Context(), id, shardlog.Latest())
		require.NoError(t, err)
		require.NoError(t, h.Trim(t.Context(), end))
	}
	e.encrypt("s", true)
	require.LessOrEqual(t, changes(), 1)
	e.put("s", "k", "y")
	require.Equal(t, "KMS", encryptions(e, "s", "0")["y"]+encryptions(e, "s", "1")["y"])
}

// A history from before there was one: what holds has held always.
func TestEncryptionWithoutHistory(t *testing.T) {
	require.Equal(t, "KMS", decodeEncryption(nil, true).ofNumber(shardlog.NewSequenceNumber(1, 0, 1, 1)))
	require.Empty(t, decodeEncryption(map[string]string{attrEncryption + "0": "AQE"[:2]}, false).ofNumber(shardlog.NewSequenceNumber(1, 0, 1, 1)))
}

func TestEncryptionHistoryIsEncoded(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	h, fits := &encryptionHistory{base: true}, true
	for i := 0; fits; i++ {
		ch := encryptionChange{kms: i%2 == 1, shards: uint32(i * 1000), from: map[uint32]uint64{}}
		for s := range uint32(i * 990) {
			ch.from[s] = r.Uint64() >> r.IntN(64)
		}
		h = &encryptionHistory{h.base, append(h.changes, ch)}
		var attrs map[string]string
		if attrs, fits = h.encode(); fits {
			require.Equal(t, h, decodeEncryption(attrs, false))
		}
		for _, text := range attrs {
			require.LessOrEqual(t, len(text), stream.MaxAttributeBytes)
		}
	}
}

func FuzzDecodeEncryption(f *testing.F) {
	h := &encryptionHistory{changes: []encryptionChange{{true, 2, map[uint32]uint64{0: 5, 1: 1 << 40}}, {false, 3, map[uint32]uint64{2: 0}}}}
	attrs, _ := h.encode()
	f.Add(attrs[attrEncryption+"0"])
	f.Fuzz(func(t *testing.T, text string) {
		h := decodeEncryption(map[string]string{attrEncryption + "0": text}, false)
		attrs, ok := h.encode()
		if ok {
			require.Equal(t, h.ofNumber(shardlog.NewSequenceNumber(1, 1, 7, 1)), decodeEncryption(attrs, false).ofNumber(shardlog.NewSequenceNumber(1, 1, 7, 1)))
		}
	})
}

// TestEncryptionHistoryAtRandom changes, splits, merges, trims and opens again in
// any order, and compares each record that is left with what its put has answered.
func TestEncryptionHistoryAtRandom(t *testing.T) {
	for seed := range uint64(3) {
		synctest.Test(t, func(t *testing.T) {
			r := &reopenable{endpoint: &endpoint{t: t}, dir: t.TempDir()}
			r.open()
			defer func() { r.close() }()
			r.create("s", 2)
			r.ok("IncreaseStreamRetentionPeriod", obj{"StreamName": "s", "RetentionPeriodHours": 8760})
			rnd := rand.New(rand.NewPCG(seed, 7))
			said, texts := map[string]string{}, 0
			open := func() (ids []string) {
				st, err := r.db.Stream(t.Context(), "s")
				require.NoError(t, err)
				all, err := st.Shards(t.Context())
				require.NoError(t, err)
				for i := range all {
					if !all[i].Closed {
						ids = append(ids, all[i].ID)
					}
				}
				return ids
			}
			for step := range 81 {
				switch n := rnd.IntN(20); {
				case n < 9:
					texts++
					text := fmt.Sprint(texts)
					out := r.ok("PutRecord", obj{"StreamName": "s", "PartitionKey": text, "Data": []byte(text)})
					said[text], _ = out["EncryptionType"].(string)
				case n < 15:
					r.encrypt("s", rnd.IntN(2) == 0)
				case n < 16:
					r.ok("UpdateShardCount", obj{"StreamName": "s", "TargetShardCount": 2 + rnd.IntN(2), "ScalingType": "UNIFORM_SCALING"})
				case n < 18:
					st, err := r.db.Stream(t.Context(), "s")
					require.NoError(t, err)
					ids := open()
					h, err := st.Shard(ids[rnd.IntN(len(ids))])
					require.NoError(t, err)
					end, err := st.Resolve(t.Context(), h.ID(), shardlog.Latest())
					require.NoError(t, err)
					require.NoError(t, h.Trim(t.Context(), end))
				default:
					r.close()
					r.open()
				}
				if step%10 > 0 {
					continue
				}
				for _, shard := range r.ok("ListShards", obj{"StreamName": "s"})["Shards"].([]any) {
					for text, kind := range encryptions(r.endpoint, "s", shard.(obj)["ShardId"].(string)) {
						require.Equal(t, said[text], kind, "seed %d: record %s", seed, text)
					}
				}
			}
		})
	}
}

// What is said of a record that was just put costs no memory, however often the
// setting was changed before.
func TestEncryptionOfANumberAllocatesNothing(t *testing.T) {
	h := &encryptionHistory{}
	for i := range 1000 {
		h.changes = append(h.changes, encryptionChange{i%2 == 0, 1, map[uint32]uint64{0: uint64(i) * 10}})
	}
	n := shardlog.NewSequenceNumber(1, 0, 5_005, 1)
	in := h.inShard(0)
	require.Equal(t, in.next(n), h.ofNumber(n))
	require.Zero(t, testing.AllocsPerRun(100, func() {
		h.ofNumber(n)
		in := h.inShard(0)
		in.next(n)
	}))
}
