package checkpoint_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

var testKey = checkpoint.Key{Group: "g", Stream: "s", Shard: "shardId-000000000000"}

func fullLease() checkpoint.Lease {
	p := shardlog.AfterSub(shardlog.NewSequenceNumber(1, 2, 3, 4), 5)
	return checkpoint.Lease{
		Key: testKey, StreamID: "arn:stream/s", Version: math.MaxUint64, Epoch: 1<<63 + 1, Owner: "w1", Next: "w2", Beat: 7,
		Checkpoint: shardlog.After(shardlog.NewSequenceNumber(1, 2, 3, 4)), Ended: true,
		Prepared: &p, PreparedState: []byte{0, 0xff}, Parents: []string{"p"}, Children: []string{"c1", "c2"},
		HashStart: shardlog.NewHashKey(0, 0), HashEnd: shardlog.MaxHashKey, Switches: 1,
	}
}

// TestRowFormat pins the stored bytes: a change here is a change of format.
func TestRowFormat(t *testing.T) {
	const (
		small = `{"v":1,"group":"g","stream":"s","shard":"shardId-000000000000","version":0,"checkpoint":"TRIM_HORIZON","hashStart":"","hashEnd":""}`
		full  = `{"v":2,"group":"g","stream":"s","shard":"shardId-000000000000","streamId":"arn:stream/s","version":18446744073709551615,"epoch":9223372036854775809,"owner":"w1","next":"w2","beat":7,` +
			`"checkpoint":"AFTER_SEQUENCE_NUMBER:%[1]s","ended":true,"prepared":"AFTER_SEQUENCE_NUMBER:%[1]s:5","state":"AP8=","parents":["p"],"children":["c1","c2"],` +
			`"hashStart":"0","hashEnd":"340282366920938463463374607431768211455","switches":1}`
	)
	for _, c := range []struct {
		lease checkpoint.Lease
		want  string
	}{
		{checkpoint.Lease{Key: testKey}, small},
		{fullLease(), fmt.Sprintf(full, shardlog.NewSequenceNumber(1, 2, 3, 4))},
	} {
		b, err := checkpoint.Marshal(c.lease)
		require.NoError(t, err)
		assert.Equal(t, c.want, string(b))
		got, err := checkpoint.Unmarshal([]byte(c.want))
		require.NoError(t, err)
		assert.Equal(t, c.lease, got)
	}
}

func TestUnmarshalErrors(t *testing.T) {
	good, err := checkpoint.Marshal(checkpoint.Lease{Key: testKey})
	require.NoError(t, err)
	for _, bad := range []string{
		"", "null", "{}", "[]", "x", string(good[:len(good)-1]), string(good) + "{}", string(good) + "x",
		strings.Replace(string(good), `"v":1`, `"v":0`, 1),
		strings.Replace(string(good), `"v":1`, `"v":1,"extra":1`, 1),
		strings.Replace(string(good), `"TRIM_HORIZON"`, `"NOWHERE"`, 1),
		strings.Replace(string(good), `"group":"g"`, `"group":""`, 1),
		strings.Replace(string(good), `"version":0`, `"version":-1`, 1),
		strings.Replace(string(good), `"version":0`, `"version":18446744073709551616`, 1),
	} {
		_, err := checkpoint.Unmarshal([]byte(bad))
		require.ErrorIs(t, err, shardlog.ErrCorrupt, "%s", bad)
		require.NotErrorIs(t, err, shardlog.ErrInvalid, "%s", bad)
	}
	_, err = checkpoint.Unmarshal([]byte(`{"v":3,"something":"new"}`))
	require.ErrorIs(t, err, shardlog.ErrVersion)
}

func TestUnmarshalDoesNotKeepItsInput(t *testing.T) {
	b, err := checkpoint.Marshal(fullLease())
	require.NoError(t, err)
	l, err := checkpoint.Unmarshal(b)
	require.NoError(t, err)
	for i := range b {
		b[i] = 0xcc
	}
	assert.Equal(t, fullLease(), l)
}

func TestValidate(t *testing.T) {
	long := strings.Repeat("x", checkpoint.MaxNameLength+1)
	require.NoError(t, fullLease().Validate())
	require.NoError(t, checkpoint.Key{Group: long[1:], Stream: "a\x00b", Shard: "é"}.Validate())

	many := make([]string, checkpoint.MaxLinks+1)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	unset := shardlog.After(shardlog.SequenceNumber{})
	for field, change := range map[string]func(*checkpoint.Lease){
		"Group":         func(l *checkpoint.Lease) { l.Group = "" },
		"Stream":        func(l *checkpoint.Lease) { l.Stream = "\xff" },
		"Shard":         func(l *checkpoint.Lease) { l.Shard = long },
		"StreamID":      func(l *checkpoint.Lease) { l.StreamID = long },
		"Owner":         func(l *checkpoint.Lease) { l.Owner = long },
		"Next":          func(l *checkpoint.Lease) { l.Next = "\xff" },
		"Checkpoint":    func(l *checkpoint.Lease) { l.Checkpoint = unset },
		"Prepared":      func(l *checkpoint.Lease) { l.Prepared = &unset },
		"PreparedState": func(l *checkpoint.Lease) { l.PreparedState = make([]byte, checkpoint.MaxPreparedState+1) },
		"Parents":       func(l *checkpoint.Lease) { l.Parents = []string{""} },
		"Children":      func(l *checkpoint.Lease) { l.Children = many },
	} {
		l := fullLease()
		change(&l)
		err := l.Validate()
		var invalid *shardlog.InvalidError
		require.ErrorAs(t, err, &invalid, field)
		assert.Equal(t, field, invalid.Field)
		require.ErrorIs(t, err, shardlog.ErrInvalid)
		_, err = checkpoint.Marshal(l)
		require.ErrorIs(t, err, shardlog.ErrInvalid, field)
	}
	for _, y := range []int{-1, 10000} {
		l := checkpoint.Lease{Key: testKey, Checkpoint: shardlog.AtTime(time.Date(y, 6, 1, 0, 0, 0, 0, time.UTC))}
		require.ErrorIs(t, l.Validate(), shardlog.ErrInvalid, "year %d", y)
	}
}

func TestValidateReportsEveryFault(t *testing.T) {
	err := checkpoint.Lease{Next: "\xff"}.Validate()
	for _, field := range []string{"Group", "Stream", "Shard", "Next"} {
		assert.ErrorContains(t, err, "invalid "+field)
	}
}

func TestCloneSharesNothing(t *testing.T) {
	l := fullLease()
	c := l.Clone()
	require.Equal(t, l, c)
	c.PreparedState[0], c.Parents[0], c.Children[0], *c.Prepared = 'x', "x", "x", shardlog.Latest()
	assert.Equal(t, fullLease(), l)
}

func TestKeyCompare(t *testing.T) {
	sorted := []checkpoint.Key{{}, {Shard: "a"}, {Stream: "a"}, {Stream: "a", Shard: "b"}, {Group: "a"}, {Group: "a", Stream: "a"}, {Group: "b"}}
	for i, a := range sorted {
		for j, b := range sorted {
			c := a.Compare(b)
			assert.Equal(t, i < j, c < 0, "%v %v", a, b)
			assert.Equal(t, i == j, c == 0, "%v %v", a, b)
		}
	}
}

func TestMemoryErrorsNameTheRow(t *testing.T) {
	m := checkpoint.NewMemory()
	_, err := m.Get(context.Background(), testKey)
	var e *shardlog.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, "s", e.Stream)
	assert.Equal(t, testKey.Shard, e.Shard)
	require.ErrorIs(t, err, shardlog.ErrNotFound)

	require.ErrorIs(t, m.Delete(context.Background(), checkpoint.Lease{}), shardlog.ErrInvalid)
	_, err = m.Get(context.Background(), checkpoint.Key{})
	require.ErrorIs(t, err, shardlog.ErrInvalid)
}

func FuzzUnmarshal(f *testing.F) {
	for _, l := range []checkpoint.Lease{{Key: testKey}, fullLease(), {Key: testKey, Checkpoint: shardlog.AtTime(time.Unix(1, 1e6))}} {
		b, err := checkpoint.Marshal(l)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Add([]byte(`{"v":2}`))
	f.Add([]byte(`{"v":3}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := checkpoint.Unmarshal(data)
		if err != nil {
			if !errors.Is(err, shardlog.ErrCorrupt) && !errors.Is(err, shardlog.ErrVersion) {
				t.Fatalf("error %v matches no documented one", err)
			}
			return
		}
		// What was read can be written, and that is a fixed point.
		b, err := checkpoint.Marshal(l)
		if err != nil {
			t.Fatalf("marshal of %+v: %v", l, err)
		}
		again, err := checkpoint.Unmarshal(b)
		if err != nil {
			t.Fatalf("unmarshal of %s: %v", b, err)
		}
		b2, err := checkpoint.Marshal(again)
		if err != nil || !bytes.Equal(b, b2) {
			t.Fatalf("%s became %s, error %v", b, b2, err)
		}
	})
}

func FuzzMarshal(f *testing.F) {
	f.Add("g", "s", "shardId-000000000000", "owner", uint64(1), []byte("state"), uint8(4), int64(5))
	f.Add("a/b\x00", "日本", `"\`, "", uint64(math.MaxUint64), []byte{}, uint8(2), int64(-1))
	f.Fuzz(func(t *testing.T, group, stream, shard, owner string, n uint64, state []byte, kind uint8, at int64) {
		seq := shardlog.NewSequenceNumber(at, uint32(n), n, at)
		positions := []shardlog.Position{
			shardlog.TrimHorizon(), shardlog.Latest(), shardlog.AtTime(time.Unix(0, at)),
			shardlog.At(seq), shardlog.After(seq), shardlog.AfterSub(seq, uint32(n)),
		}
		p := positions[int(kind)%len(positions)]
		l := checkpoint.Lease{
			Key:     checkpoint.Key{Group: group, Stream: stream, Shard: shard},
			Version: n, Epoch: n, Beat: n, Owner: owner, Checkpoint: p, Prepared: &p, PreparedState: state,
			HashStart: shardlog.NewHashKey(n, n), Ended: kind&1 == 0,
		}
		b, err := checkpoint.Marshal(l)
		if err != nil {
			if !errors.Is(err, shardlog.ErrInvalid) || l.Validate() == nil {
				t.Fatalf("marshal: %v", err)
			}
			return
		}
		got, err := checkpoint.Unmarshal(b)
		if err != nil {
			t.Fatalf("unmarshal of %s: %v", b, err)
		}
		if got.Key != l.Key || got.Owner != owner || got.Version != n || got.HashStart != l.HashStart ||
			got.Ended != l.Ended || !bytes.Equal(got.PreparedState, state) || !samePosition(got.Checkpoint, p) || !samePosition(*got.Prepared, p) {
			t.Fatalf("%+v became %+v", l, got)
		}
	})
}

func samePosition(a, b shardlog.Position) bool {
	if a.Kind() == shardlog.KindAtTime && b.Kind() == shardlog.KindAtTime {
		return a.Time().Equal(b.Time())
	}
	return a == b
}
