package shardlog_test

import (
	"cmp"
	"context"
	"crypto/md5"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

// hexForm composes the documented 47 hexadecimal digits of a sequence number.
func hexForm(created int64, shard uint32, counter uint64, arrival int64) string {
	return fmt.Sprintf("2%09x%01x%016x00%09x%08x2", created, shard%16, counter, arrival, shard)
}

func decimal(t testing.TB, hex string) string {
	t.Helper()
	n, ok := new(big.Int).SetString(hex, 16)
	require.True(t, ok)
	return n.String()
}

func TestSequenceNumberLayout(t *testing.T) {
	for _, c := range []struct {
		created int64
		shard   uint32
		counter uint64
		arrival int64
	}{
		{0, 0, 0, 0},
		{1, 1, 1, 1},
		{1_700_000_000, 12, 345, 1_700_000_001},
		{1<<36 - 1, 1<<32 - 1, shardlog.MaxCounter, 1<<36 - 1},
		{1 << 35, 1 << 31, 1 << 62, 1 << 35},
		{0x123456789, 0x89abcdef, 0x0123456789abcdef, 0xfedcba987},
	} {
		hex := hexForm(c.created, c.shard, c.counter, c.arrival)
		require.Len(t, hex, 47)
		n := shardlog.NewSequenceNumber(c.created, c.shard, c.counter, c.arrival)
		assert.Equal(t, decimal(t, hex), n.String())
		assert.Len(t, n.String(), 56)
		p, ok := parts(n)
		assert.True(t, ok)
		assert.Equal(t, numberParts(c), p)
		got, err := shardlog.ParseSequenceNumber(n.String())
		require.NoError(t, err)
		assert.Equal(t, n, got)
		assert.True(t, n.IsSet())
	}
}

func TestSequenceNumberCutsWhatDoesNotFit(t *testing.T) {
	assert.Equal(t,
		shardlog.NewSequenceNumber(1, 2, 3, 4),
		shardlog.NewSequenceNumber(1<<36|1, 2, 1<<63|3, 1<<36|4))
	p, ok := parts(shardlog.NewSequenceNumber(-1, 0, 0, 0))
	assert.True(t, ok)
	assert.Equal(t, int64(1<<36-1), p.created)
}

func TestParseSequenceNumberRefuses(t *testing.T) {
	good := shardlog.NewSequenceNumber(1_700_000_000, 12, 345, 1_700_000_001)
	for name, s := range map[string]string{
		"empty":                "",
		"sign":                 "+" + good.String(),
		"minus":                "-" + good.String(),
		"space":                " " + good.String(),
		"leading zero":         "0" + good.String(),
		"letters":              "4900000000000000000000000000000000000000000000000000000x",
		"inner letter":         good.String()[:20] + "x" + good.String()[21:],
		"57 digits":            "1" + strings.Repeat("0", 56),
		"larger than 192 bits": new(big.Int).Lsh(big.NewInt(1), 192).String(),
		"wraps at 192 bits":    new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 192), bigOf(t, good.String())).String(),
		"very long":            strings.Repeat("9", 10_000),
	} {
		_, err := shardlog.ParseSequenceNumber(s)
		var invalid *shardlog.InvalidError
		require.ErrorAs(t, err, &invalid, name)
		assert.Equal(t, "SequenceNumber", invalid.Field)
		require.ErrorIs(t, err, shardlog.ErrInvalid)
		assert.Less(t, len(err.Error()), 250)
	}
}

// numberParts are what a sequence number of this log is composed of.
type numberParts struct {
	created int64
	shard   uint32
	counter uint64
	arrival int64
}

// parts returns what n says of itself; ok is false if it says nothing, and a
// number that says only a part fails the test by panicking.
func parts(n shardlog.SequenceNumber) (p numberParts, ok bool) {
	created, ok1 := n.Created()
	shard, ok2 := n.Shard()
	counter, ok3 := n.Counter()
	arrival, ok4 := n.Arrival()
	if ok1 != ok2 || ok2 != ok3 || ok3 != ok4 {
		panic(fmt.Sprintf("%v: parts known: %v %v %v %v", n, ok1, ok2, ok3, ok4))
	}
	if !ok1 {
		return numberParts{}, false
	}
	return numberParts{created.Unix(), shard, counter, arrival.Unix()}, true
}

// Numbers of other logs are accepted and ordered, but have no parts.
func TestForeignSequenceNumbers(t *testing.T) {
	ascending := []string{
		"0", "1", "42", strings.Repeat("9", 38), "1" + strings.Repeat("0", 38),
		"18446744073709551615", "18446744073709551616", // around 2^64 and 2^128
		"340282366920938463463374607431768211455", "340282366920938463463374607431768211456",
		decimal(t, "1"+hexForm(1, 1, 1, 1)[1:]),                                                         // another version
		decimal(t, hexForm(1, 1, 1, 1)[:46]+"1"),                                                        // another last digit
		decimal(t, strings.Replace(hexForm(1, 1, 1, 1), "000000000000000100", "000000000000000101", 1)), // the middle byte is not 0
		decimal(t, "2000000001"+"3"+hexForm(1, 1, 1, 1)[11:]),                                           // two different indexes
		decimal(t, hexForm(1, 1, 1<<63, 1)),                                                             // a counter of 64 bits
		"49" + strings.Repeat("3", 54), "49" + strings.Repeat("4", 54), strings.Repeat("9", 56), "99" + strings.Repeat("0", 54),
	}
	slices.SortFunc(ascending, func(a, b string) int { return bigOf(t, a).Cmp(bigOf(t, b)) })
	var last shardlog.SequenceNumber
	for _, s := range ascending {
		n, err := shardlog.ParseSequenceNumber(s)
		require.NoError(t, err, s)
		assert.Equal(t, s, n.String())
		assert.True(t, n.IsSet(), s)
		assert.Equal(t, 1, n.Compare(last), s)
		_, ok := parts(n)
		assert.False(t, ok, s)
		text, err := shardlog.After(n).MarshalText()
		require.NoError(t, err)
		var p shardlog.Position
		require.NoError(t, p.UnmarshalText(text))
		assert.Equal(t, shardlog.After(n), p)
		last = n
	}
	_, ok := parts(shardlog.SequenceNumber{})
	assert.False(t, ok, "unset")
	assert.LessOrEqual(t, unsafe.Sizeof(last), uintptr(24))
}

func bigOf(t testing.TB, s string) *big.Int {
	t.Helper()
	n, ok := new(big.Int).SetString(s, 10)
	require.True(t, ok)
	return n
}

func TestSequenceNumberOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	numbers := []shardlog.SequenceNumber{{}}
	for range 300 {
		// Few values per part, so that parts are often equal.
		numbers = append(numbers, shardlog.NewSequenceNumber(r.Int64N(3), r.Uint32N(18), r.Uint64N(3)<<r.UintN(62), r.Int64N(3)<<r.UintN(34)))
	}
	for _, a := range numbers {
		for _, b := range numbers {
			want := 0
			switch {
			case !a.IsSet() && !b.IsSet():
			case !a.IsSet():
				want = -1
			case !b.IsSet():
				want = 1
			default:
				want = bigOf(t, a.String()).Cmp(bigOf(t, b.String()))
			}
			if a.Compare(b) != want || (want == 0) != (a == b) {
				t.Fatalf("compare %v %v: %d, want %d", a, b, a.Compare(b), want)
			}
		}
	}
}

// Along a shard the counter decides, whatever the arrival; along a lineage the
// creation does, whatever the counter.
func TestSequenceNumbersGrowAlongTheLineage(t *testing.T) {
	grows := []shardlog.SequenceNumber{
		shardlog.NewSequenceNumber(100, 3, 1, 900), shardlog.NewSequenceNumber(100, 3, 2, 800),
		shardlog.NewSequenceNumber(100, 3, shardlog.MaxCounter, 0), shardlog.NewSequenceNumber(101, 0, 0, 0),
	}
	assert.True(t, slices.IsSortedFunc(grows, shardlog.SequenceNumber.Compare))
}

func TestUnsetSequenceNumber(t *testing.T) {
	var n shardlog.SequenceNumber
	assert.False(t, n.IsSet())
	assert.Empty(t, n.String())
	b, err := n.MarshalText()
	require.NoError(t, err)
	got := shardlog.NewSequenceNumber(1, 1, 1, 1)
	require.NoError(t, got.UnmarshalText(b))
	assert.False(t, got.IsSet())
	require.Error(t, got.UnmarshalText([]byte("01")))
	assert.False(t, got.IsSet(), "unchanged by the error")
}

func TestHashKeyText(t *testing.T) {
	limit := new(big.Int).Lsh(big.NewInt(1), 128)
	r := rand.New(rand.NewPCG(3, 4))
	values := []*big.Int{big.NewInt(0), big.NewInt(1), new(big.Int).Sub(limit, big.NewInt(1))}
	for i := range 39 { // around each power of ten, where chunks of digits begin
		p := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(i)), nil)
		values = append(values, new(big.Int).Sub(p, big.NewInt(1)), p, new(big.Int).Add(p, big.NewInt(1)))
	}
	for range 500 {
		v := new(big.Int).Lsh(new(big.Int).SetUint64(r.Uint64()), 64)
		v.Add(v, new(big.Int).SetUint64(r.Uint64()))
		values = append(values, v.Rsh(v, r.UintN(128)))
	}
	var keys []shardlog.HashKey
	for _, v := range values {
		k, err := shardlog.ParseHashKey(v.String())
		require.NoError(t, err)
		hi, lo := k.Words()
		words := new(big.Int).Lsh(new(big.Int).SetUint64(hi), 64)
		assert.Zero(t, v.Cmp(words.Add(words, new(big.Int).SetUint64(lo))))
		assert.Equal(t, v.String(), k.String())
		assert.Equal(t, shardlog.NewHashKey(hi, lo), k)
		keys = append(keys, k)

		next, ok := k.Next()
		if ok {
			assert.Equal(t, new(big.Int).Add(v, big.NewInt(1)).String(), next.String())
			prev, ok := next.Prev()
			assert.True(t, ok)
			assert.Equal(t, k, prev)
		} else {
			assert.Equal(t, shardlog.MaxHashKey, k)
		}
		if prev, ok := k.Prev(); ok {
			assert.Equal(t, new(big.Int).Sub(v, big.NewInt(1)).String(), prev.String())
		} else {
			assert.Zero(t, v.Sign())
		}
	}
	for i, a := range keys {
		for j, b := range keys {
			if a.Compare(b) != values[i].Cmp(values[j]) {
				t.Fatalf("compare %v %v", a, b)
			}
		}
	}
}

func TestParseHashKeyRefuses(t *testing.T) {
	limit := new(big.Int).Lsh(big.NewInt(1), 128)
	for _, s := range []string{
		"", "-1", "+1", "01", "00", " 1", "1 ", "1.0", "0x1", "1_0", "١", "1\x00", strings.Repeat("9", 39), strings.Repeat("1", 40),
		limit.String(), new(big.Int).Add(limit, big.NewInt(1)).String(), new(big.Int).Mul(limit, big.NewInt(2)).String(),
	} {
		_, err := shardlog.ParseHashKey(s)
		var invalid *shardlog.InvalidError
		require.ErrorAs(t, err, &invalid, "%q", s)
		assert.Equal(t, "HashKey", invalid.Field)
	}
}

func TestUnsetHashKey(t *testing.T) {
	var unset shardlog.HashKey
	zero := shardlog.NewHashKey(0, 0)
	assert.False(t, unset.IsSet())
	assert.True(t, zero.IsSet())
	assert.NotEqual(t, unset, zero)
	assert.Empty(t, unset.String())
	assert.Equal(t, "0", zero.String())
	assert.Equal(t, -1, unset.Compare(zero))
	assert.Equal(t, 1, zero.Compare(unset))
	assert.Zero(t, unset.Compare(shardlog.HashKey{}))
	_, ok := unset.Next()
	assert.False(t, ok)
	_, ok = unset.Prev()
	assert.False(t, ok)
	for _, k := range []shardlog.HashKey{unset, zero, shardlog.MaxHashKey} {
		b, err := json.Marshal(k)
		require.NoError(t, err)
		got := shardlog.NewHashKey(7, 7)
		require.NoError(t, json.Unmarshal(b, &got))
		assert.Equal(t, k, got)
	}
	require.Error(t, zero.UnmarshalText([]byte("x")))
	assert.Equal(t, "0", zero.String(), "unchanged by the error")
}

// The known values are MD5 as a big-endian number, which is how Kinesis places
// a partition key.
func TestKeyHash(t *testing.T) {
	for key, want := range map[string]string{
		"a":      "16955237001963240173058271559858726497",
		"alice":  "132283552702735894323332391932430538300",
		"bob":    "212164099741615454138234394844395612632",
		"κλειδί": "96969301573944448165773857723892846045",
	} {
		assert.Equal(t, want, shardlog.KeyHash(key).String())
	}
	for _, key := range []string{"", "x", strings.Repeat("y", 1000)} {
		sum := md5.Sum([]byte(key))
		assert.Equal(t, new(big.Int).SetBytes(sum[:]).String(), shardlog.KeyHash(key).String())
	}
}

func positions() []shardlog.Position {
	s := shardlog.NewSequenceNumber(1_700_000_000, 12, 345, 1_700_000_001)
	return []shardlog.Position{
		shardlog.TrimHorizon(), shardlog.Latest(), shardlog.At(s), shardlog.After(s),
		shardlog.AfterSub(s, 0), shardlog.AfterSub(s, 7), shardlog.AfterSub(s, 1<<32-1),
	}
}

func TestPositionParts(t *testing.T) {
	s := shardlog.NewSequenceNumber(1, 2, 3, 4)
	assert.Equal(t, shardlog.Position{}, shardlog.TrimHorizon())
	assert.Equal(t, shardlog.KindLatest, shardlog.Latest().Kind())
	assert.Equal(t, shardlog.KindAt, shardlog.At(s).Kind())
	assert.Equal(t, s, shardlog.At(s).Sequence())
	assert.Equal(t, shardlog.WholeRecord, shardlog.After(s).SubSequence())
	assert.Equal(t, int64(1<<32-1), shardlog.AfterSub(s, 1<<32-1).SubSequence())
	at := time.Unix(5, 6)
	assert.True(t, shardlog.AtTime(at).Time().Equal(at))
	all := positions()
	for i, a := range all {
		for j, b := range all {
			assert.Equal(t, i == j, a == b)
			assert.Equal(t, i == j, a.String() == b.String())
		}
	}
}

func TestPositionText(t *testing.T) {
	s := shardlog.NewSequenceNumber(1, 2, 3, 4)
	for p, want := range map[shardlog.Position]string{
		shardlog.TrimHorizon():   "TRIM_HORIZON",
		shardlog.Latest():        "LATEST",
		shardlog.At(s):           "AT_SEQUENCE_NUMBER:" + s.String(),
		shardlog.After(s):        "AFTER_SEQUENCE_NUMBER:" + s.String(),
		shardlog.AfterSub(s, 12): "AFTER_SEQUENCE_NUMBER:" + s.String() + ":12",
		shardlog.AtTime(time.Unix(1, 5e6).In(time.FixedZone("", 3600))): "AT_TIMESTAMP:1970-01-01T00:00:01.005Z",
	} {
		b, err := p.MarshalText()
		require.NoError(t, err)
		assert.Equal(t, want, string(b))
	}
	for _, p := range append(positions(), shardlog.AtTime(time.Unix(1_700_000_000, 123456789))) {
		b, err := json.Marshal(p)
		require.NoError(t, err)
		var got shardlog.Position
		require.NoError(t, json.Unmarshal(b, &got))
		assert.True(t, got.Time().Equal(p.Time()))
		if p.Kind() != shardlog.KindAtTime {
			assert.Equal(t, p, got)
		}
	}
}

func TestPositionTextRefuses(t *testing.T) {
	s := shardlog.NewSequenceNumber(1, 2, 3, 4).String()
	for _, text := range []string{
		"", "trim_horizon", "TRIM_HORIZON:", "LATEST:1", "LATEST ", "AT_TIMESTAMP", "AT_TIMESTAMP:", "AT_TIMESTAMP:yesterday",
		"AT_SEQUENCE_NUMBER", "AT_SEQUENCE_NUMBER:", "AT_SEQUENCE_NUMBER:01", "AT_SEQUENCE_NUMBER:" + s + ":1",
		"AFTER_SEQUENCE_NUMBER:", "AFTER_SEQUENCE_NUMBER:" + s + ":", "AFTER_SEQUENCE_NUMBER:" + s + ":-1",
		"AFTER_SEQUENCE_NUMBER:" + s + ":4294967296", "AFTER_SEQUENCE_NUMBER:" + s + ":+1", "AFTER_SEQUENCE_NUMBER:" + s + ":1:1",
		"BEFORE:" + s,
	} {
		p := shardlog.Latest()
		err := p.UnmarshalText([]byte(text))
		var invalid *shardlog.InvalidError
		require.ErrorAs(t, err, &invalid, "%q", text)
		assert.Equal(t, shardlog.Latest(), p, "unchanged by the error")
	}
}

func TestRecordSize(t *testing.T) {
	r := shardlog.Record{PartitionKey: "κ", Data: make([]byte, 10), Headers: []shardlog.Header{{"a", "bc"}, {"", ""}, {"de", "f"}}}
	assert.Equal(t, 2+10+3+3, r.Size())
	assert.Zero(t, (&shardlog.Record{}).Size())
}

func TestErrorsMatch(t *testing.T) {
	n := shardlog.NewSequenceNumber(1, 2, 3, 4)
	for _, c := range []struct{ err, target error }{
		{&shardlog.InvalidError{Field: "X"}, shardlog.ErrInvalid},
		{&shardlog.TrimmedError{}, shardlog.ErrExpired},
		{&shardlog.CorruptError{}, shardlog.ErrCorrupt},
		{&shardlog.ConflictError{Expected: n}, shardlog.ErrConflict},
		{&shardlog.Error{Err: shardlog.ErrNoSpace}, shardlog.ErrNoSpace},
	} {
		wrapped := fmt.Errorf("outer: %w", &shardlog.Error{Op: "op", Err: c.err})
		require.ErrorIs(t, wrapped, c.target)
		require.NotErrorIs(t, wrapped, shardlog.ErrLocked)
		assert.NotContains(t, wrapped.Error(), "\n")
	}
	var e *shardlog.Error
	require.ErrorAs(t, fmt.Errorf("outer: %w", &shardlog.Error{Shard: "s", Err: io.EOF}), &e)
	assert.Equal(t, "s", e.Shard)
}

func TestErrorText(t *testing.T) {
	assert.Equal(t, `shardlog: put: stream "orders": shardId-000000000000: throughput exceeded (retry after 1s)`,
		(&shardlog.Error{Op: "put", Stream: "orders", Shard: "shardId-000000000000", RetryAfter: time.Second, Err: shardlog.ErrThroughputExceeded}).Error())
	assert.Equal(t, "shardlog: EOF", (&shardlog.Error{Err: io.EOF}).Error())
	inner := &shardlog.Error{Op: "put", Stream: "s", Shard: "shardId-000000000000", RetryAfter: time.Second, Err: shardlog.ErrThroughputExceeded}
	for _, c := range []struct {
		outer shardlog.Error
		want  string
	}{
		{shardlog.Error{Op: "put"}, `shardlog: put: stream "s": shardId-000000000000: throughput exceeded (retry after 1s)`},
		{shardlog.Error{Op: "commit", RetryAfter: time.Second}, `shardlog: commit: put: stream "s": shardId-000000000000: throughput exceeded (retry after 1s)`},
		{shardlog.Error{Op: "consume", Stream: "s", Shard: inner.Shard}, `shardlog: consume: stream "s": shardId-000000000000: put: throughput exceeded (retry after 1s)`},
		{shardlog.Error{Op: "put", Stream: "other"}, `shardlog: put: stream "other": stream "s": shardId-000000000000: throughput exceeded (retry after 1s)`},
	} {
		c.outer.Err = inner
		assert.Equal(t, c.want, c.outer.Error(), "nothing is said twice")
	}
	assert.Equal(t, "shardlog: create: invalid A; invalid B", // several faults, which errors.Join writes in lines
		(&shardlog.Error{Op: "create", Err: errors.Join(errors.New("invalid A"), errors.New("invalid B"))}).Error())
	assert.Equal(t, `invalid Name "a\nb": must be printable`, (&shardlog.InvalidError{Field: "Name", Value: "a\nb", Limit: "printable"}).Error())
	assert.Equal(t, `invalid Count -1: must be positive`, (&shardlog.InvalidError{Field: "Count", Value: -1, Limit: "positive"}).Error())
	long := (&shardlog.InvalidError{Field: "Name", Value: strings.Repeat("é", 1000), Limit: "short"}).Error()
	assert.Less(t, len(long), 120)
	assert.True(t, utf8.ValidString(long), "cut between characters")
	assert.Equal(t, `conflict: expected last sequence number "", found "`+shardlog.NewSequenceNumber(1, 2, 3, 4).String()+`"`,
		(&shardlog.ConflictError{Actual: shardlog.NewSequenceNumber(1, 2, 3, 4)}).Error())
}

func TestRetryable(t *testing.T) {
	yes := []error{shardlog.ErrThroughputExceeded, shardlog.ErrNoSpace, shardlog.ErrUnknownOutcome}
	no := []error{
		nil, io.EOF, context.Canceled, context.DeadlineExceeded,
		shardlog.ErrInvalid, shardlog.ErrNotFound, shardlog.ErrExists, shardlog.ErrClosed, shardlog.ErrShardClosed, shardlog.ErrWrongShard,
		shardlog.ErrExpired, shardlog.ErrCorrupt, shardlog.ErrConflict, shardlog.ErrLocked, shardlog.ErrVersion, shardlog.ErrStorage,
		errors.Join(shardlog.ErrUnknownOutcome, context.Canceled), errors.Join(shardlog.ErrUnknownOutcome, shardlog.ErrStorage),
	}
	for _, err := range yes {
		assert.True(t, shardlog.Retryable(err), "%v", err)
		assert.True(t, shardlog.Retryable(&shardlog.Error{Err: err}), "%v", err)
	}
	for _, err := range no {
		assert.False(t, shardlog.Retryable(err), "%v", err)
	}
}

func TestAllocations(t *testing.T) {
	key := strings.Repeat("k", 256)
	var sink int
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		k := shardlog.KeyHash(key)
		n := shardlog.NewSequenceNumber(1, 2, 3, 4)
		sink += cmp.Or(k.Compare(shardlog.MaxHashKey), n.Compare(shardlog.SequenceNumber{}))
	}))
}
