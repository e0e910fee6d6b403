package kpl

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/shardlog/shardlog"
)

var update = flag.Bool("update", false, "write testdata/node/cases.json")

// unlimited is a limit that nothing reaches.
const unlimited = 1 << 40

func build(t testing.TB, records ...UserRecord) []byte {
	t.Helper()
	var b Builder
	for _, r := range records {
		require.True(t, b.Add(r, unlimited))
	}
	data := b.Append(nil)
	require.Len(t, data, b.Size(), "the size is exact")
	return data
}

// frame makes an aggregate of a message.
func frame(msg []byte) []byte {
	sum := md5.Sum(msg)
	return append(append([]byte(Magic), msg...), sum[:]...)
}

func user(key, data string) UserRecord { return UserRecord{PartitionKey: key, Data: []byte(data)} }

func hashed(r UserRecord, hi, lo uint64) UserRecord {
	r.HashKey = shardlog.NewHashKey(hi, lo)
	return r
}

func golden() []UserRecord {
	return []UserRecord{user("alice", "one"), user("bob", "two"), hashed(user("alice", ""), 1<<63, 0), user("κλειδί", Magic)}
}

const goldenHex = "f3899ac20a05616c6963650a03626f620a0ccebacebbceb5ceb9ceb4ceaf1227313730313431313833343630343639323331373331363837333033373135383834313035373238" +
	"1a0708001a036f6e651a0708011a0374776f1a06080010001a001a0808021a04f3899ac20f9ccb3b55a8c064191d48682d67ab84"

func TestGoldenVector(t *testing.T) {
	data, err := hex.DecodeString(goldenHex)
	require.NoError(t, err)
	require.Len(t, data, 123)
	assert.True(t, IsAggregate(data))
	assert.Equal(t, data, build(t, golden()...))
	got, err := Decode(data, nil)
	require.NoError(t, err)
	assert.Equal(t, golden(), got)
	assert.False(t, got[0].HashKey.IsSet(), "absent is not index 0")
	assert.Equal(t, "170141183460469231731687303715884105728", got[2].HashKey.String())
}

type vectorRecord struct {
	Key     string            `json:"key"`
	HashKey string            `json:"hashKey,omitempty"`
	Data    string            `json:"data"`
	Sub     int               `json:"sub,omitempty"`
	Headers []shardlog.Header `json:"headers,omitempty"`
}

type vector struct {
	Name    string         `json:"name"`
	Records []vectorRecord `json:"records"`
	Encoded string         `json:"encoded"`
}

// vectorCases are what cases.json is made from.
func vectorCases() map[string][]UserRecord {
	cases := map[string][]UserRecord{
		"golden":     golden(),
		"one":        {user("k", "v")},
		"empty data": {user("k", ""), user("k", "")},
		"magic":      {user("k", Magic+"0123456789012345678901234567890")},
		"largest":    {hashed(user("k", "w"), 0, 0), hashed(user("k", "v"), ^uint64(0), ^uint64(0))},
		"headers": {{PartitionKey: "k", Data: []byte("v"), Headers: []shardlog.Header{{Key: "a", Value: "1"}, {Key: "", Value: ""}, {Key: "a", Value: "ü"}}},
			user("l", "w")},
	}
	for _, n := range []int{127, 128, 129, 16383, 16384} { // where lengths grow
		cases[fmt.Sprintf("data of %d bytes", n)] = []UserRecord{user(strings.Repeat("k", min(n, 256)), strings.Repeat("d", n)), user("l", "e")}
	}
	var many []UserRecord
	for i := range 300 { // so that indexes take two bytes
		many = append(many, hashed(user(fmt.Sprintf("key%d", i%200), fmt.Sprintf("data%d", i)), uint64(i%150), 1))
	}
	cases["many keys"] = many
	return cases
}

func toVector(name string, records []UserRecord, encoded []byte) vector {
	v := vector{Name: name, Encoded: hex.EncodeToString(encoded)}
	for _, r := range records {
		v.Records = append(v.Records, vectorRecord{Key: r.PartitionKey, HashKey: r.HashKey.String(), Data: hex.EncodeToString(r.Data), Headers: r.Headers})
	}
	return v
}

func readJSON(t *testing.T, name string, v any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "node", name))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, v))
}

// Scenario 76: what node's aws-kinesis-agg writes is what we write, and each
// reads the other's.
func TestVectors(t *testing.T) {
	cases := vectorCases()
	if *update {
		var all []vector
		for name, records := range cases {
			all = append(all, toVector(name, records, build(t, records...)))
		}
		data, err := json.MarshalIndent(all, "", " ")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join("testdata", "node", "cases.json"), append(data, '\n'), 0o600))
	}
	var ours []vector
	var node []struct {
		Name    string `json:"name"`
		Encoded string `json:"encoded"`
		Decoded struct {
			Records []vectorRecord `json:"records"`
			Error   string         `json:"error"`
		} `json:"decoded"`
	}
	readJSON(t, "cases.json", &ours)
	readJSON(t, "node.json", &node)
	require.Len(t, ours, len(cases))
	require.Len(t, node, len(cases))
	for i, c := range ours {
		records := cases[c.Name]
		require.Equal(t, toVector(c.Name, records, build(t, records...)), c, "%s: the file is what we write", c.Name)
		n := node[i]
		require.Equal(t, c.Name, n.Name)
		require.Empty(t, n.Decoded.Error)
		require.Len(t, n.Decoded.Records, len(records))
		for j, r := range c.Records {
			got := n.Decoded.Records[j]
			r.Sub, r.Headers = j, nil
			if r.HashKey == "" {
				r.HashKey = got.HashKey // it reports the table's first; see the README there
			}
			assert.Equal(t, r, got, "%s: record %d as Node reads it", c.Name, j)
		}
		if n.Encoded == "" {
			require.NotNil(t, records[0].Headers, c.Name)
			continue
		}
		assert.Equal(t, c.Encoded, n.Encoded, "%s: byte for byte", c.Name)
		data, err := hex.DecodeString(n.Encoded)
		require.NoError(t, err)
		got, err := Decode(data, nil)
		require.NoError(t, err)
		assert.Equal(t, records, got, c.Name)
	}
}

func TestRoundTripOfRandomRecords(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	for range 200 {
		var records []UserRecord
		for range rnd.IntN(40) {
			r := user(fmt.Sprint("k", rnd.IntN(20)), strings.Repeat("x", rnd.IntN(300)))
			if rnd.IntN(2) == 0 {
				r = hashed(r, rnd.Uint64()>>rnd.IntN(64), uint64(rnd.IntN(3)))
			}
			for range rnd.IntN(3) {
				r.Headers = append(r.Headers, shardlog.Header{Key: strings.Repeat("h", rnd.IntN(200)), Value: fmt.Sprint(rnd.IntN(1000))})
			}
			records = append(records, r)
		}
		if len(records) == 0 {
			continue
		}
		data := build(t, records...)
		got, err := Decode(data, nil)
		require.NoError(t, err, "seed %d", seed)
		require.Equal(t, records, got, "seed %d", seed)
		a, err := Parse(data)
		require.NoError(t, err)
		require.Equal(t, len(records), a.Len())
		var pieces []UserRecord
		for n := 1 + rnd.IntN(7); len(pieces) < len(records); {
			before := len(pieces)
			pieces = a.Next(pieces, n)
			require.LessOrEqual(t, len(pieces)-before, n)
		}
		require.Equal(t, records, pieces, "seed %d", seed)
		require.Empty(t, a.Next(nil, 5))
	}
}

func TestBuilderHoldsItsLimit(t *testing.T) {
	var b Builder
	limit := 2000
	var in []UserRecord
	for i := 0; ; i++ {
		r := hashed(user(fmt.Sprint("key", i%9), strings.Repeat("d", i)), uint64(i%3), 0)
		before := b.Size()
		if !b.Add(r, limit) {
			require.Equal(t, before, b.Size(), "a refused record leaves no trace")
			break
		}
		in = append(in, r)
	}
	assert.LessOrEqual(t, b.Size(), limit)
	assert.Greater(t, b.Size(), limit-100)
	data := b.Append([]byte("prefix"))
	assert.Equal(t, "prefix", string(data[:6]))
	got, err := Decode(data[6:], nil)
	require.NoError(t, err)
	assert.Equal(t, in, got)
	last := in[len(in)-1]
	assert.True(t, b.Add(user("key0", ""), b.Size()+7), "an exact fit")
	assert.False(t, b.Add(user("key0", ""), b.Size()+5), "one byte short")

	b.Reset()
	assert.Equal(t, Overhead, b.Size())
	assert.Zero(t, b.Len())
	require.True(t, b.Add(last, Alone(last)))
	assert.False(t, new(Builder).Add(last, Alone(last)-1))
	assert.Equal(t, build(t, last), b.Append(nil), "nothing is left from before")
}

func TestDecodeAppendsAndAliases(t *testing.T) {
	data := build(t, golden()...)
	first := []UserRecord{user("before", "")}
	got, err := Decode(data, first)
	require.NoError(t, err)
	require.Len(t, got, 5)
	assert.Equal(t, "before", got[0].PartitionKey)
	before := bytes.Clone(data)
	_ = append(got[1].Data, "overwrite"...)
	assert.Equal(t, before, data, "no room to append")
	data[bytes.Index(data, []byte("one"))] = 'O'
	assert.Equal(t, "One", string(got[1].Data), "data is part of the input")
	copy(data[4:], bytes.Repeat([]byte{0xcc}, len(data)-4))
	assert.Equal(t, "alice", got[1].PartitionKey, "strings are not")
}

func varint(num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), v)
}

func field2(num protowire.Number, parts ...[]byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), bytes.Join(parts, nil))
}

func str(num protowire.Number, s string) []byte { return field2(num, []byte(s)) }

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// Scenario 46, the reader's part.
func TestDecodeRefuses(t *testing.T) {
	good := field2(3, varint(1, 0), str(3, "v"))
	tests := map[string]struct {
		data   []byte
		cause  Cause
		record int
	}{
		"nothing":               {nil, NotAggregate, -1},
		"no magic":              {[]byte("a plain record of some length"), NotAggregate, -1},
		"magic alone":           {[]byte(Magic), NotAggregate, -1},
		"empty message":         {frame(nil), NotAggregate, -1},
		"magic and text":        {[]byte(Magic + "0123456789abcdef0"), BadDigest, -1},
		"message cut off":       {frame(join(str(1, "k"), []byte{tagRecord, 9})), BadProtobuf, -1},
		"field 0":               {frame([]byte{2, 0}), BadProtobuf, -1},
		"endless varint":        {frame(bytes.Repeat([]byte{0xff}, 12)), BadProtobuf, -1},
		"length beyond the end": {frame(join(str(1, "k"), []byte{tagRecord, 0xff, 0xff, 0xff, 0xff, 0x0f})), BadProtobuf, -1},
		"huge length":           {frame([]byte{tagRecord, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}), BadProtobuf, -1},
		"lone end of a group":   {frame([]byte{7<<3 | 4}), BadProtobuf, -1},
		"record cut off":        {frame(join(str(1, "k"), good, field2(3, []byte{tagData, 5}))), BadProtobuf, 1},
		"no key index":          {frame(join(str(1, "k"), good, field2(3, str(3, "v")))), BadProtobuf, 1},
		"no data":               {frame(join(str(1, "k"), good, field2(3, varint(1, 0)))), BadProtobuf, 1},
		"index of wrong type":   {frame(join(str(1, "k"), field2(3, str(1, "0"), str(3, "v")))), BadProtobuf, 0},
		"key index":             {frame(join(str(1, "k"), good, good, field2(3, varint(1, 1), str(3, "v")))), BadIndex, 2},
		"key index of 2^64-1":   {frame(join(str(1, "k"), field2(3, varint(1, 1<<64-1), str(3, "v")))), BadIndex, 0},
		"no tables":             {frame(good), BadIndex, 0},
		"hash key index":        {frame(join(str(1, "k"), str(2, "5"), good, field2(3, varint(1, 0), varint(2, 1), str(3, "v")))), BadIndex, 1},
		"hash key of 2^128": {frame(join(str(1, "k"), str(2, "340282366920938463463374607431768211456"), good,
			field2(3, varint(1, 0), varint(2, 0), str(3, "v")))), BadHashKey, 1},
		"hash key -1":     {frame(join(str(1, "k"), str(2, "-1"), field2(3, varint(1, 0), varint(2, 0), str(3, "v")))), BadHashKey, 0},
		"hash key empty":  {frame(join(str(1, "k"), str(2, ""), field2(3, varint(1, 0), varint(2, 0), str(3, "v")))), BadHashKey, 0},
		"tag without key": {frame(join(str(1, "k"), field2(3, varint(1, 0), str(3, "v"), field2(4, str(2, "v"))))), BadProtobuf, 0},
		"tag cut off":     {frame(join(str(1, "k"), field2(3, varint(1, 0), str(3, "v"), field2(4, []byte{tagTagKey, 9})))), BadProtobuf, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dst := make([]UserRecord, 1, 10)
			got, err := Decode(tt.data, dst)
			var e *DecodeError
			require.ErrorAs(t, err, &e)
			assert.Equal(t, tt.cause, e.Cause, "%v", err)
			assert.Equal(t, tt.record, e.Record)
			assert.Len(t, got, 1)
			assert.Equal(t, make([]UserRecord, 9), dst[1:10], "never half an aggregate")
			assert.Equal(t, tt.cause > BadDigest, errors.Is(err, shardlog.ErrCorrupt))
			assert.Equal(t, tt.cause > BadDigest, IsAggregate(tt.data))
			_, perr := Parse(tt.data)
			require.Equal(t, err, perr)
			assert.Contains(t, err.Error(), tt.cause.String())
		})
	}
}

func TestDecodeAccepts(t *testing.T) {
	k := user("k", "v")
	rec := field2(3, varint(1, 0), str(3, "v"))
	tests := map[string]struct {
		data []byte
		want []UserRecord
	}{
		"zero records":           {frame(str(1, "k")), nil},
		"tables after records":   {frame(join(rec, str(1, "k"))), []UserRecord{k}},
		"repeated keys":          {frame(join(str(1, "k"), str(1, "k"), field2(3, varint(1, 1), str(3, "v")))), []UserRecord{k}},
		"fields in any order":    {frame(join(str(1, "k"), field2(3, str(3, "v"), varint(1, 0)))), []UserRecord{k}},
		"the last counts":        {frame(join(str(1, "k"), field2(3, varint(1, 9), str(3, "x"), varint(1, 0), str(3, "v")))), []UserRecord{k}},
		"unknown fields":         {frame(join(varint(200, 1), str(1, "k"), str(9, "?"), field2(3, varint(1, 0), str(17, "?"), str(3, "v")), []byte{5<<3 | 5, 1, 2, 3, 4})), []UserRecord{k}},
		"a group":                {frame(join([]byte{5<<3 | 3, 5<<3 | 4}, str(1, "k"), rec)), []UserRecord{k}},
		"unused bad hash key":    {frame(join(str(1, "k"), str(2, "x"), rec)), []UserRecord{k}},
		"hash key with zeros":    {frame(join(str(1, "k"), str(2, "007"), field2(3, varint(1, 0), varint(2, 0), str(3, "v")))), []UserRecord{hashed(k, 0, 7)}},
		"hash key 0":             {frame(join(str(1, "k"), str(2, "00"), field2(3, varint(1, 0), varint(2, 0), str(3, "v")))), []UserRecord{hashed(k, 0, 0)}},
		"a tag without value":    {frame(join(str(1, "k"), field2(3, varint(1, 0), str(3, "v"), field2(4, str(1, "h"))))), []UserRecord{{PartitionKey: "k", Data: []byte("v"), Headers: []shardlog.Header{{Key: "h"}}}}},
		"an aggregate inside":    {build(t, user("k", string(build(t, k)))), []UserRecord{user("k", string(build(t, k)))}},
		"a long form of a tag":   {frame(join([]byte{0x8a, 0x00, 1, 'x'}, str(1, "k"), rec)), []UserRecord{k}},
		"a long form of lengths": {frame(join([]byte{tagKey, 0x81, 0x00, 'k'}, rec)), []UserRecord{k}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Decode(tt.data, nil)
			require.NoError(t, err)
			assert.Equal(t, tt.want, got)
		})
	}
}

// The writer's part of scenario 47; readers take such an aggregate in pieces.
func TestManySubRecords(t *testing.T) {
	const n = 100_000
	var b Builder
	for i := range n {
		require.True(t, b.Add(user("k", fmt.Sprint(i)), unlimited))
	}
	a, err := Parse(b.Append(nil))
	require.NoError(t, err)
	require.Equal(t, n, a.Len())
	piece := make([]UserRecord, 0, 100)
	next := 0
	assert.Zero(t, testing.AllocsPerRun(10, func() {
		piece = a.Next(piece[:0], 100)
		next += len(piece)
	}))
	for i := next; i < n; {
		piece = a.Next(piece[:0], 100)
		require.Len(t, piece, 100)
		for _, r := range piece {
			require.Equal(t, fmt.Sprint(i), string(r.Data))
			i++
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(build(f, golden()...)[4 : 123-16])
	f.Add([]byte{})
	f.Add(frame(str(1, "k")))
	f.Fuzz(func(t *testing.T, msg []byte) {
		for _, data := range [][]byte{msg, frame(msg)} {
			before := bytes.Clone(data)
			got, err := Decode(data, make([]UserRecord, 0, 4))
			require.Equal(t, before, data)
			a, perr := Parse(data)
			if err != nil {
				require.Empty(t, got)
				require.Equal(t, err, perr)
				continue
			}
			require.NoError(t, perr)
			require.Equal(t, len(got), len(a.Next(nil, 1<<30)))
			if len(got) == 0 {
				continue
			}
			// What was read can be written, and reads as the same.
			again, err := Decode(build(t, got...), nil)
			require.NoError(t, err)
			require.Equal(t, got, again)
		}
	})
}
