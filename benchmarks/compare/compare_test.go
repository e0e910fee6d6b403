package main

import (
	"os"
	"slices"
	"testing"
)

// held is a rival whose scan returns given records.
type held struct{ values [][]byte }

func (h *held) append(batch []record) {
	for _, r := range batch {
		h.values = append(h.values, slices.Clone(r.data()))
	}
}

func (h *held) scan(f func([]byte)) {
	for _, v := range h.values {
		f(v)
	}
}

func (h *held) close() {}

// The check finds lost, repeated, misordered and foreign records.
func TestVerify(t *testing.T) {
	for name, change := range map[string]func(v [][]byte) [][]byte{
		"nothing":    nil,
		"loss":       func(v [][]byte) [][]byte { return v[1:] },
		"repetition": func(v [][]byte) [][]byte { return append(v, v[len(v)-1]) },
		"disorder":   func(v [][]byte) [][]byte { v[0], v[1000] = v[1000], v[0]; return v },
		"another":    func(v [][]byte) [][]byte { v[5] = slices.Clone(v[6]); return v },
	} {
		t.Run(name, func(t *testing.T) {
			h, m := &held{}, newMaker(0)
			h.append(m.batch(2000))
			if change != nil {
				h.values = change(h.values)
			}
			defer func() {
				if found := recover() != nil; found != (change != nil) {
					t.Errorf("found: %v", found)
				}
			}()
			if n := verify(h, []*maker{m}); n != 2000 {
				t.Error(n)
			}
		})
	}
}

// Each system stores what is appended, by one writer and by several.
func TestSystems(t *testing.T) {
	*quick, *dataDir = true, t.TempDir()
	for _, s := range systems {
		t.Run(s.name, func(t *testing.T) {
			sync := s.unsynced == ""
			for _, w := range []work{{1, 500, sync}, {4, 1, sync}} {
				if rate, p50, p99 := appendFor(s, w); rate <= 0 || p50 > p99 {
					t.Error(rate, p50, p99)
				}
			}
		})
	}
	left, err := os.ReadDir(*dataDir)
	if err != nil || len(left) > 0 {
		t.Error(left, err)
	}
}

func TestEndpoint(t *testing.T) {
	*quick = true
	url, stop := serveOurs()
	defer stop()
	if r := (endpoint{"shardlog", url}).put(10, 2); r <= 0 {
		t.Error(r)
	}
}
