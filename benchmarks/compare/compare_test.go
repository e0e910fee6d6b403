package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestMain lets the test's own binary play sides, as the program's does.
func TestMain(m *testing.M) {
	flag.Parse()
	if *playWork != "" {
		play()
		return
	}
	*quick = true
	os.Exit(m.Run())
}

// held is a rival whose scan returns given records.
type held struct{ values [][]byte }

func (h *held) append(_ int, batch []record) {
	for _, r := range batch {
		h.values = append(h.values, slices.Clone(r.data))
	}
}

func (h *held) scan(f func([]byte)) {
	for _, v := range h.values {
		f(v)
	}
}

func (h *held) close() {}

// The check finds lost, repeated, misordered, foreign and damaged records.
func TestVerify(t *testing.T) {
	for name, change := range map[string]func(v [][]byte) [][]byte{
		"nothing":    nil,
		"loss":       func(v [][]byte) [][]byte { return v[1:] },
		"repetition": func(v [][]byte) [][]byte { return append(v, v[len(v)-1]) },
		"disorder":   func(v [][]byte) [][]byte { v[0], v[1000] = v[1000], v[0]; return v },
		"another":    func(v [][]byte) [][]byte { v[5] = slices.Clone(v[6]); return v },
		"damage":     func(v [][]byte) [][]byte { v[5][50]++; return v },
		"a stranger": func(v [][]byte) [][]byte { v[5][1] = 1; return v },
	} {
		t.Run(name, func(t *testing.T) {
			h, m := &held{}, newMaker(0, small)
			h.append(0, m.batch(2000))
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

// Batches of any size have records that follow each other.
func TestMaker(t *testing.T) {
	h, m := &held{}, newMaker(0, explicit)
	for _, n := range []int{1, 500, 499, 1, 1000, 700, 3000, 1} {
		for _, r := range m.batch(n) {
			if !bytes.HasSuffix(r.raw, r.data) || !bytes.HasPrefix(r.raw, []byte(r.key)) || !r.hash.IsSet() {
				t.Fatal(r)
			}
			h.append(0, []record{r})
		}
	}
	verify(h, []*maker{m})
}

// Each system stores what is appended, by one writer and by several.
func TestSystems(t *testing.T) {
	*dataDir = t.TempDir()
	for _, s := range systems {
		t.Run(s.name, func(t *testing.T) {
			sync := s.unsynced == ""
			for _, w := range []manner{{1, 500, sync, small}, {4, 1, sync, explicit}} {
				if m := appendFor(s, w); m["rate"] <= 0 || m["p50"] > m["p99"] {
					t.Error(m)
				}
			}
		})
	}
	left, err := os.ReadDir(*dataDir)
	if err != nil || len(left) > 0 {
		t.Error(left, err)
	}
}

// A work that takes several processes: a killed one, and those that open what it
// left.
func TestReopen(t *testing.T) {
	*dataDir = t.TempDir()
	for _, s := range []string{us, pebbles, tidwall} {
		m, err := runSide("reopen", s, 1)
		if err != nil {
			t.Fatal(err)
		}
		if m["warm"] <= 0 || m["peakMB"] < 0 || s == us && m["kept"] != 1 {
			t.Error(s, m)
		}
	}
}

// A cold file has no page in the cache, and a copy has its contents and holes.
func TestColdCopy(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	must(os.Stat(mkdir(from)))
	f := must(os.Create(filepath.Join(from, "f")))
	must(f.WriteAt(noise, 1<<20))
	check(f.Truncate(8 << 20))
	check(f.Close())
	want := must(os.ReadFile(f.Name()))
	check(copyFiles(from, to))
	if got := must(os.ReadFile(filepath.Join(to, "f"))); !bytes.Equal(got, want) {
		t.Error("the copy differs")
	}
	if a, b := diskBytes(from), diskBytes(to); b > a+64<<10 {
		t.Errorf("the copy takes %d bytes, the file %d", b, a)
	}
	// Whether the kernel drops the pages depends on the file system.
	if cached, ok := dropCache(from); ok && (cached < 0 || cached > 1) {
		t.Error(cached)
	}
}

// Sides of one work over HTTP store all that they acknowledge.
func TestEndpoints(t *testing.T) {
	*dataDir = t.TempDir()
	for _, w := range httpWorks() {
		for _, s := range w.sides {
			if m := s.play(); m["rate"] <= 0 {
				t.Error(w.name, s.name, m)
			}
		}
	}
}

// The decoder reads what a client sends: it would be no measure if it left
// something out.
func TestDecoder(t *testing.T) {
	for _, own := range []bool{true, false} {
		s := &scratch{}
		r := must(http.NewRequest("POST", "/", bytes.NewReader(request{500, 100, 1}.body("s"))))
		if err := s.decode(r, own); err != nil || len(s.entries) != 500 {
			t.Fatal(err, len(s.entries))
		}
		for i, r := range newMaker(0, small).batch(500) {
			if e := s.entries[i]; !bytes.Equal(e.data, r.data) || string(e.key) != keys[i] {
				t.Fatal(i, e)
			}
		}
	}
	for _, bad := range []string{"", "{", `{"Records":`, `{"Records":[{"Data":"?"}]}`, `{"Records":[{"Data":"a\"b"}]}`, `{"a" "b"}`} {
		p := parser{in: []byte(bad)}
		if p.object(&entry{}) == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// invented are results as a run of all works has them.
func invented() *results {
	ws := works()
	res := newResults(ws, len(ws))
	res.Quick, res.Rounds, res.Span = false, fewestRounds, leastSpan
	for round := range res.Rounds {
		for _, w := range ws {
			for i, s := range w.sides {
				m := metrics{}
				for _, name := range []string{"rate", "p50", "p99", "first", "allocs", "disk", "peakMB", "heapMB", "warm", "cold", "warmFirst", "coldFirst", "cached", "kept", "new", "existing", "cpu"} {
					m[name] = float64(1000*(i+1) + round)
				}
				res.Cells = append(res.Cells, cell{res.Run, round + 1, w.name, s.name, 0, m})
			}
		}
	}
	return res
}

// The page is only written of figures of one whole run.
func TestQuotable(t *testing.T) {
	for name, change := range map[string]func(*results){
		"":            func(*results) {},
		"a quick run": func(r *results) { r.Quick = true },
		"4 rounds": func(r *results) {
			r.Rounds = 4
			r.Cells = slices.DeleteFunc(r.Cells, func(c cell) bool { return c.Round == 5 })
		},
		"mixed":             func(r *results) { r.Cells[7].Run = newResults(nil, 0).Run },
		"each of 5":         func(r *results) { r.Cells = slices.Delete(r.Cells, 9, 10) },
		"not of each":       func(r *results) { r.Cells = append(r.Cells, r.Cells[3]) },
		"rounds [2 3 4 5":   func(r *results) { r.Cells[0].Round = 5 },
		"all are needed":    func(r *results) { r.Works-- },
		"at least 400ms":    func(r *results) { r.Span /= 2 },
		"runs " + "another": func(r *results) { r.Run = "another" },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "run.json")
			res := invented()
			change(res)
			check(res.save(file))
			err := must(load(file)).write(dir)
			_, missing := os.Stat(filepath.Join(dir, "BENCHMARKS.md"))
			if name == "" {
				if err != nil || missing != nil {
					t.Fatal(err, missing)
				}
				return
			}
			if err == nil || missing == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%v", err)
			}
		})
	}
}

// All tables of a page have as many columns in each row, and every goal is there.
func TestPage(t *testing.T) {
	dir := t.TempDir()
	res := invented()
	check(res.write(dir))
	text := string(must(os.ReadFile(filepath.Join(dir, "BENCHMARKS.md"))))
	columns := 0
	for line := range strings.Lines(text) {
		n := strings.Count(line, "|")
		if n > 0 && columns > 0 && n != columns {
			t.Errorf("%d columns, not %d: %s", n, columns, line)
		}
		columns = n
	}
	if rows, _ := res.summary(); len(rows) != len(goals()) {
		t.Errorf("%d rows of %d goals: some are for figures that no work has", len(rows), len(goals()))
	}
	for _, s := range systems {
		if !strings.Contains(text, "| "+s.name+" |") {
			t.Errorf("%s is missing", s.name)
		}
	}
	for part := range strings.SplitSeq(text, "](") {
		if file, _, ok := strings.Cut(part, ")"); ok && strings.HasSuffix(file, ".svg") {
			must(os.Stat(filepath.Join(dir, file)))
		}
	}
}

// Each goal is met by its bound, or just not, and not by what is worse.
func TestGoals(t *testing.T) {
	for _, g := range goals() {
		better, worse := g.bound/2, g.bound*2
		if g.least {
			better, worse = worse, better
		}
		if !g.met([]float64{worse, better, better}) || g.met([]float64{worse, worse, better}) || g.met([]float64{g.bound}) == g.below || g.met(nil) {
			t.Errorf("%s %s", g.what, g)
		}
	}
}

// Ratios are of the same round, whatever the order of the cells.
func TestRatios(t *testing.T) {
	res := &results{Rounds: 2, Cells: []cell{
		{"", 1, "w", "a", 0, metrics{"rate": 10}}, {"", 1, "w", "b", 0, metrics{"rate": 5}},
		{"", 2, "w", "b", 0, metrics{"rate": 20}}, {"", 2, "w", "a", 0, metrics{"rate": 10}},
	}}
	got := res.ratios(of{"w", "a", "rate"}, of{"w", "b", "rate"})
	if !slices.Equal(got, []float64{2, 0.5}) {
		t.Error(got)
	}
	if b := must(json.Marshal(res)); !bytes.Contains(b, []byte(`"rate":20`)) {
		t.Errorf("%s", b)
	}
}
