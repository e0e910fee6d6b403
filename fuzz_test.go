package shardlog_test

import (
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/shardlog/shardlog"
)

func FuzzParseSequenceNumber(f *testing.F) {
	f.Add("")
	f.Add("0")
	f.Add(shardlog.NewSequenceNumber(1, 2, 3, 4).String())
	f.Add(shardlog.NewSequenceNumber(1<<36-1, 1<<32-1, shardlog.MaxCounter, 1<<36-1).String())
	for _, n := range []int{1, 38, 55, 56, 57, 58} {
		f.Add(strings.Repeat("9", n))
		f.Add("1" + strings.Repeat("0", n-1))
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := shardlog.ParseSequenceNumber(s)
		if err != nil {
			if !errors.Is(err, shardlog.ErrInvalid) || n.IsSet() {
				t.Fatalf("%v with error %v", n, err)
			}
			return
		}
		if n.String() != s {
			t.Fatalf("%q became %q", s, n)
		}
		// What has parts is what they compose, and nothing else is.
		p, ok := parts(n)
		if own := shardlog.NewSequenceNumber(p.created, p.shard, p.counter, p.arrival); ok != (own == n) {
			t.Fatalf("parts of %v: %v, %v", n, p, ok)
		}
		if !n.IsSet() || n.Compare(shardlog.SequenceNumber{}) != 1 {
			t.Fatalf("%v is not above the zero value", n)
		}
	})
}

func FuzzSequenceNumber(f *testing.F) {
	f.Add(int64(1), uint32(2), uint64(3), int64(4), int64(5), uint32(6), uint64(7), int64(8))
	f.Fuzz(func(t *testing.T, c1 int64, s1 uint32, n1 uint64, a1, c2 int64, s2 uint32, n2 uint64, a2 int64) {
		const mask = 1<<36 - 1
		c1, a1, c2, a2, n1, n2 = c1&mask, a1&mask, c2&mask, a2&mask, n1&shardlog.MaxCounter, n2&shardlog.MaxCounter
		x, y := shardlog.NewSequenceNumber(c1, s1, n1, a1), shardlog.NewSequenceNumber(c2, s2, n2, a2)
		if x.String() != decimal(t, hexForm(c1, s1, n1, a1)) {
			t.Fatalf("%d %d %d %d printed as %v", c1, s1, n1, a1, x)
		}
		if p, ok := parts(x); !ok || p != (numberParts{c1, s1, n1, a1}) {
			t.Fatalf("parts of %v", x)
		}
		if x.Compare(y) != bigOf(t, x.String()).Cmp(bigOf(t, y.String())) {
			t.Fatalf("compare %v %v", x, y)
		}
		if got, err := shardlog.ParseSequenceNumber(x.String()); err != nil || got != x {
			t.Fatalf("%v became %v, error %v", x, got, err)
		}
	})
}

func FuzzParseHashKey(f *testing.F) {
	for _, s := range []string{"", "0", "01", "-1", "340282366920938463463374607431768211455", "340282366920938463463374607431768211456"} {
		f.Add(s)
	}
	limit := new(big.Int).Lsh(big.NewInt(1), 128)
	f.Fuzz(func(t *testing.T, s string) {
		k, err := shardlog.ParseHashKey(s)
		n, ok := new(big.Int).SetString(s, 10)
		// What big reads and prints in the same way, and is in range, is a key.
		valid := ok && n.Sign() >= 0 && n.Cmp(limit) < 0 && n.String() == s
		if valid != (err == nil) {
			t.Fatalf("%q: error %v", s, err)
		}
		if err != nil {
			if !errors.Is(err, shardlog.ErrInvalid) || k.IsSet() {
				t.Fatalf("%v with error %v", k, err)
			}
			return
		}
		if k.String() != s {
			t.Fatalf("%q became %q", s, k)
		}
	})
}

func FuzzPositionText(f *testing.F) {
	for _, p := range append(positions(), shardlog.AtTime(time.Unix(1, 2))) {
		b, _ := p.MarshalText()
		f.Add(b)
	}
	f.Add([]byte("AT_TIMESTAMP:2026-01-01T00:00:00+23:59"))
	f.Add([]byte("AT_TIMESTAMP:0000-01-01T00:00:00+01:00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var p shardlog.Position
		if err := p.UnmarshalText(text); err != nil {
			if !errors.Is(err, shardlog.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		if y := p.Time().UTC().Year(); p.Kind() == shardlog.KindAtTime && (y < 0 || y > 9999) {
			return // a zone can move a time out of the years that can be written
		}
		b, err := p.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var again shardlog.Position
		if err := again.UnmarshalText(b); err != nil {
			t.Fatalf("%s became %s: %v", text, b, err)
		}
		same := again == p
		if p.Kind() == shardlog.KindAtTime {
			same = again.Kind() == p.Kind() && again.Time().Equal(p.Time())
		}
		if !same {
			t.Fatalf("%v became %v", p, again)
		}
	})
}
