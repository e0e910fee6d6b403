package patterns

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/shardlog/shardlog"
)

// maxLinesBytes is the largest part of the file Workload.Lines that is read.
const maxLinesBytes = 256 << 20

// material is what all producers of a run generate records from. It is immutable,
// so they share it without a lock.
type material struct {
	w     *Workload
	names []string // of the keys, by their number
	text  []byte   // the source of the data of records; see generator.cut
	lines [][]byte
	keyOf []uint32 // the key of each line
	// malformed is how many lines were left out because they have no key.
	malformed int64
	alias     *aliasTable
}

func newMaterial(w *Workload) (*material, error) {
	m := &material{w: w}
	if w.Lines != "" {
		if err := m.readLines(); err != nil {
			return nil, err
		}
	}
	if w.Keys.Kind != KeyLines {
		m.names = make([]string, w.Keys.Count)
		for i := range m.names {
			m.names[i] = fmt.Sprintf("key-%07d", i)
		}
	}
	switch w.Keys.Kind {
	case KeyZipf:
		weights := make([]float64, w.Keys.Count)
		for i := range weights {
			weights[i] = math.Pow(float64(i+1), -w.Keys.Exponent)
		}
		m.alias = newAliasTable(weights)
	}
	if w.Sizes.Kind != SizeLines {
		m.text = madeUpText(w.Seed)
	}
	return m, nil
}

// readLines reads the file, and the key of each line if lines have one.
func (m *material) readLines() error {
	f, err := os.Open(m.w.Lines)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxLinesBytes))
	if err != nil {
		return err
	}
	if len(data) == maxLinesBytes { // the last line may be cut
		data = data[:bytes.LastIndexByte(data, '\n')+1]
	}
	data = bytes.TrimPrefix(data, []byte("\uFEFF")) // which some programs begin a text with
	numbers := map[string]uint32{}
	for line := range bytes.Lines(data) {
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			continue
		}
		if len(line) > maxData {
			line = line[:maxData]
		}
		if m.w.Keys.Kind == KeyLines {
			ok, err := m.addKey(numbers, line)
			if err != nil {
				return err
			}
			if !ok {
				m.malformed++
				continue
			}
		}
		m.lines = append(m.lines, line)
	}
	if len(m.lines) == 0 {
		return &shardlog.InvalidError{Field: "lines", Value: m.w.Lines, Limit: fmt.Sprintf("a file with lines that have a key; %d have none", m.malformed)}
	}
	return nil
}

// addKey adds the key of the next line, and returns false if it has none.
func (m *material) addKey(numbers map[string]uint32, line []byte) (ok bool, err error) {
	name, ok := field(line, m.w.Keys.Field)
	if !ok {
		return false, nil
	}
	n, known := numbers[name]
	if !known {
		if len(m.names) == maxKeys {
			return false, &shardlog.InvalidError{Field: "lines", Value: m.w.Lines, Limit: "a file with at most 1048576 different keys"}
		}
		n = uint32(len(m.names))
		numbers[name], m.names = n, append(m.names, name)
	}
	m.keyOf = append(m.keyOf, n)
	return true, nil
}

// field returns the n-th field of a line as a partition key, false if it has
// none. A line with NUL bytes, which a file system leaves where a write was lost,
// is no line of a log.
func field(line []byte, n int) (string, bool) {
	if bytes.IndexByte(line, 0) >= 0 {
		return "", false
	}
	for f := range strings.FieldsSeq(string(line)) {
		if n--; n > 0 {
			continue
		}
		f = strings.ToValidUTF8(f, "\uFFFD")
		if utf8.RuneCountInString(f) > shardlog.MaxPartitionKeyLength {
			f = string([]rune(f)[:shardlog.MaxPartitionKeyLength])
		}
		return f, true
	}
	return "", false
}

// textBytes is larger than what the log compresses together, so that repetitions
// do not help the compression, and small enough to be generated quickly.
const textBytes = 2 << 20

// madeUpText returns JSON that resembles the logs of programs, and compresses
// about as well.
func madeUpText(seed uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, 1))
	verbs := []string{"page_view", "add_to_cart", "search", "purchase", "login", "logout", "scroll", "click"}
	paths := []string{"/", "/products/", "/cart", "/checkout/payment", "/account/orders/", "/help/contact"}
	b := make([]byte, 0, textBytes+512)
	for len(b) < textBytes {
		b = fmt.Appendf(b, `{"id":"%016x","type":%q,"user":%d,"path":"%s%d","ms":%.3f,"ok":%t,"agent":"Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101"}`+"\n",
			rng.Uint64(), verbs[rng.IntN(len(verbs))], rng.IntN(1_000_000), paths[rng.IntN(len(paths))], rng.IntN(10_000), rng.Float64()*1000, rng.IntN(50) > 0)
	}
	return b[:textBytes]
}

// aliasTable draws from a discrete distribution in constant time, by Walker's
// alias method in the form of Vose.
type aliasTable struct {
	keep  []float64 // the probability of staying at a column
	other []uint32  // the column to take otherwise
}

func newAliasTable(weights []float64) *aliasTable {
	n, sum := len(weights), 0.0
	for _, w := range weights {
		sum += w
	}
	t := &aliasTable{make([]float64, n), make([]uint32, n)}
	var small, large []uint32
	for i, w := range weights {
		t.keep[i] = w * float64(n) / sum
		if t.keep[i] < 1 {
			small = append(small, uint32(i))
		} else {
			large = append(large, uint32(i))
		}
	}
	for len(small) > 0 && len(large) > 0 {
		s, l := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		t.other[s] = l
		if t.keep[l] -= 1 - t.keep[s]; t.keep[l] < 1 {
			large = large[:len(large)-1]
			small = append(small, l)
		}
	}
	for _, rest := range [][]uint32{small, large} {
		for _, i := range rest { // the remaining probabilities are 1, except for rounding
			t.keep[i] = 1
		}
	}
	return t
}

func (t *aliasTable) draw(rng *rand.Rand) uint32 {
	i := rng.Uint32N(uint32(len(t.keep)))
	if rng.Float64() < t.keep[i] {
		return i
	}
	return t.other[i]
}
