package stream

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv/kvtest"
)

// The damage test damages each file of a database in each way and opens the
// directory in a process of its own, which must either find all records, or say
// what is damaged. By default it takes a sample;
//
//	go test -run TestDamage ./stream -damage.full
//
// tries all combinations.
var (
	damageFull  = flag.Bool("damage.full", false, "damage each file in each way, instead of a sample")
	damageWay   = flag.String("damage.way", "", "with -damage.full: damage files in this way only")
	damageTimes = flag.Int("damage.times", 1, "with -damage.full: how often each file is damaged in each way")
)

const (
	damageRecords = 300
	damageShard   = "shardId-000000000000"
)

func damageOptions(encrypted bool) *Options {
	o := smallOptions()
	o.Durability = SyncAlways
	if encrypted {
		o.EncryptionKey = bytes.Repeat([]byte("k"), 32)
	}
	return o
}

func damageRecord(i int) shardlog.Record {
	size := 20
	if i%7 == 0 {
		size = 12 << 10 // goes to the value log
	}
	return shardlog.Record{PartitionKey: "k", Data: append([]byte(fmt.Sprintf("%d ", i)), bytes.Repeat([]byte{byte(i)}, size)...)}
}

// damageTemplate makes a database with all kinds of files, in several runs, and
// leaves it closed, or as it is when its process is killed.
func damageTemplate(t *testing.T, encrypted, killed bool) (dir string) {
	t.Helper()
	ctx := context.Background()
	src := filepath.Join(t.TempDir(), "log")
	const runs = 3
	for run := range runs {
		db, err := Open(src, damageOptions(encrypted))
		require.NoError(t, err)
		st, err := db.Stream(ctx, "s")
		if errors.Is(err, shardlog.ErrNotFound) {
			st, err = db.Create(ctx, "s", Config{})
		}
		require.NoError(t, err)
		for i := run * damageRecords / runs; i < (run+1)*damageRecords/runs; i++ {
			_, err := st.Put(ctx, damageRecord(i))
			require.NoError(t, err)
		}
		if run == runs-1 && killed {
			dir = kvtest.Killed(t, src)
		}
		require.NoError(t, db.Close())
	}
	if !killed {
		dir = src
	}
	return dir
}

// damages are the ways to damage a file. They say whether they changed it.
var damages = map[string]func(r *rand.Rand, path string) (bool, error){
	"bit": func(r *rand.Rand, path string) (bool, error) {
		b, err := os.ReadFile(path)
		n := len(bytes.TrimRight(b, "\x00")) // the rest was never written
		if err != nil || n == 0 {
			return false, err
		}
		b[r.Intn(n)] ^= 1 << r.Intn(8)
		return true, os.WriteFile(path, b, 0o644)
	},
	"first byte": func(_ *rand.Rand, path string) (bool, error) {
		b, err := os.ReadFile(path)
		if err != nil || len(b) == 0 {
			return false, err
		}
		b[0] ^= 1
		return true, os.WriteFile(path, b, 0o644)
	},
	"noise": func(r *rand.Rand, path string) (bool, error) {
		b, err := os.ReadFile(path)
		n := len(bytes.TrimRight(b, "\x00"))
		if err != nil || n == 0 {
			return false, err
		}
		from := r.Intn(n)
		_, _ = r.Read(b[from:min(n, from+200)])
		return true, os.WriteFile(path, b, 0o644)
	},
	"cut by a byte": func(_ *rand.Rand, path string) (bool, error) {
		fi, err := os.Stat(path)
		if err != nil || fi.Size() == 0 {
			return false, err
		}
		return true, os.Truncate(path, fi.Size()-1)
	},
	"cut": func(r *rand.Rand, path string) (bool, error) {
		b, err := os.ReadFile(path)
		n := len(bytes.TrimRight(b, "\x00"))
		if err != nil || n < 2 {
			return false, err
		}
		return true, os.Truncate(path, 1+r.Int63n(int64(n)-1))
	},
	"extended": func(r *rand.Rand, path string) (bool, error) {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return false, err
		}
		b := make([]byte, 1+r.Intn(5000))
		if r.Intn(2) == 0 {
			_, _ = r.Read(b)
		}
		_, err = f.Write(b)
		return true, errors.Join(err, f.Close())
	},
	"zeroed": func(_ *rand.Rand, path string) (bool, error) {
		fi, err := os.Stat(path)
		if err != nil || fi.Size() == 0 {
			return false, err
		}
		return true, errors.Join(os.Truncate(path, 0), os.Truncate(path, fi.Size()))
	},
	"emptied": func(_ *rand.Rand, path string) (bool, error) { return true, os.Truncate(path, 0) },
	"removed": func(_ *rand.Rand, path string) (bool, error) { return true, os.Remove(path) },
}

// damageCase is one directory to be opened.
type damageCase struct {
	what, file, dir string
	encrypted       bool
	before          map[string]string // the files after the damage
}

func TestDamage(t *testing.T) {
	r, _ := newRand(t)
	var cases []*damageCase
	for _, encrypted := range []bool{false, true} {
		for _, killed := range []bool{false, true} {
			template := damageTemplate(t, encrypted, killed)
			entries, err := os.ReadDir(template)
			require.NoError(t, err)
			for _, e := range entries {
				for _, way := range slices.Sorted(maps.Keys(damages)) {
					cases = append(cases, &damageCase{
						what: fmt.Sprintf("killed %t, encrypted %t: %s %s", killed, encrypted, e.Name(), way),
						file: e.Name(), dir: template, encrypted: encrypted,
					})
				}
			}
		}
	}
	if *damageFull {
		cases = slices.DeleteFunc(cases, func(c *damageCase) bool { return *damageWay != "" && !strings.HasSuffix(c.what, " "+*damageWay) })
		for range *damageTimes {
			runDamage(t, r, cases)
		}
		return
	}
	r.Shuffle(len(cases), func(i, j int) { cases[i], cases[j] = cases[j], cases[i] })
	cases = cases[:min(len(cases), 40)]
	runDamage(t, r, cases)
}

// runDamage damages a copy of the template of each case and opens it.
func runDamage(t *testing.T, r *rand.Rand, cases []*damageCase) {
	t.Helper()
	root := t.TempDir()
	var ready []*damageCase
	for i, c := range cases {
		c = &damageCase{what: c.what, file: c.file, dir: c.dir, encrypted: c.encrypted}
		dir := filepath.Join(root, fmt.Sprint(i))
		require.NoError(t, os.CopyFS(dir, os.DirFS(c.dir)))
		way := c.what[strings.Index(c.what, c.file)+len(c.file)+1:]
		changed, err := damages[way](r, filepath.Join(dir, c.file))
		require.NoError(t, err, c.what)
		if !changed {
			require.NoError(t, os.RemoveAll(dir))
			continue
		}
		c.dir, c.before = dir, fingerprint(t, dir)
		ready = append(ready, c)
	}
	t.Logf("%d damaged directories", len(ready))
	for len(ready) > 0 {
		ready = openDamaged(t, ready)
	}
}

// openDamaged opens directories one after the other in another process, and
// returns those that it did not get to because it ended.
func openDamaged(t *testing.T, cases []*damageCase) (left []*damageCase) {
	t.Helper()
	var in strings.Builder
	for _, c := range cases {
		fmt.Fprintf(&in, "%t %s\n", c.encrypted, c.dir)
	}
	// A child that hangs says where, before go test ends this process.
	ctx := t.Context()
	if end, ok := t.Deadline(); ok {
		early, stop := context.WithDeadline(ctx, end.Add(-time.Minute))
		defer stop()
		ctx = early
	}
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^$")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) }
	cmd.WaitDelay = 10 * time.Second // then it is killed
	cmd.Env = append(os.Environ(), envChild+"=damage")
	cmd.Stdin = strings.NewReader(in.String())
	cmd.Env = append(cmd.Env, "GOTRACEBACK=all")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	for i, c := range cases {
		if i >= len(lines) || lines[i] == "" {
			t.Errorf("%s: the process ended: %v\n%.20000s", c.what, err, stderr.String())
			return cases[i+1:]
		}
		c.judge(t, lines[i])
		require.NoError(t, os.RemoveAll(c.dir))
	}
	return nil
}

// judge looks at what opening the directory said.
func (c *damageCase) judge(t *testing.T, line string) {
	t.Helper()
	switch {
	case strings.HasPrefix(line, "refused "):
		if now := fingerprint(t, c.dir); fmt.Sprint(now) != fmt.Sprint(c.before) {
			t.Errorf("%s: the directory was refused, and was written to:\n%v\n%v", c.what, c.before, now)
		}
	case line == "whole", strings.HasPrefix(line, "told "):
	default:
		t.Errorf("%s: %s", c.what, line)
	}
	if testing.Verbose() {
		t.Logf("%s: %.300s", c.what, line)
	}
}

// fingerprint returns what identifies the content of each file.
func fingerprint(t *testing.T, dir string) map[string]string {
	t.Helper()
	sums := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		sums[filepath.Base(path)] = fmt.Sprintf("%d-%x", len(b), xxhash.Sum64(b))
		return err
	}))
	return sums
}

// runDamageChild opens the directories that it is given and writes a line about
// each: "refused" and the error, "whole" if all records are there, "told" and
// what was said if not, "silent" if nothing was said, or what else is wrong.
func runDamageChild() {
	var encrypted bool
	var dir string
	for {
		if _, err := fmt.Scanf("%t %s\n", &encrypted, &dir); err != nil {
			return
		}
		fmt.Println(strings.ReplaceAll(openOneDamaged(dir, encrypted), "\n", " | "))
	}
}

func openOneDamaged(dir string, encrypted bool) string {
	ctx := context.Background()
	var said bytes.Buffer
	o := damageOptions(encrypted)
	o.Logger = slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelWarn}))
	db, err := Open(dir, o)
	var damaged *shardlog.DamageError
	switch {
	case err == nil:
	case !errors.Is(err, shardlog.ErrCorrupt):
		return "not as corrupt: " + err.Error()
	case !errors.As(err, &damaged):
		return "without the file: " + err.Error()
	default:
		if problem := repairOneDamaged(dir, encrypted); problem != "" {
			return problem
		}
		return "refused " + err.Error()
	}
	defer db.Close()
	st, err := db.Stream(ctx, "s")
	if err != nil {
		return "no stream, silently: " + err.Error()
	}
	found, faults, last := readDamaged(ctx, st)
	res, err := st.Put(ctx, shardlog.Record{PartitionKey: "k", Data: []byte("after")})
	switch {
	case err != nil:
		return "not writable: " + err.Error()
	case res.Sequence.Compare(last) <= 0:
		return "a number is given out again"
	case counterOf(res.Sequence) < damageRecords:
		return fmt.Sprintf("number %d is given out again, after %d records", counterOf(res.Sequence), found)
	}
	if err := db.Close(); err != nil && !errors.Is(err, shardlog.ErrCorrupt) {
		return "not closed: " + err.Error()
	}
	switch {
	case faults != "" && !strings.Contains(faults, "corrupt"):
		return "wrong: " + faults
	case found == damageRecords:
		return "whole"
	case faults != "", said.Len() > 0:
		return fmt.Sprintf("told that of %d records %d are there: %s %s", damageRecords, found, faults, said.String())
	}
	return fmt.Sprintf("silent: of %d records %d are there", damageRecords, found)
}

// repairOneDamaged checks and repairs a copy of a directory that was refused, and
// returns what is wrong with that.
func repairOneDamaged(dir string, encrypted bool) (problem string) {
	dup := dir + ".copy"
	defer os.RemoveAll(dup)
	if err := os.CopyFS(dup, os.DirFS(dir)); err != nil {
		return "copy: " + err.Error()
	}
	ctx, o := context.Background(), damageOptions(encrypted)
	r, err := Check(ctx, dup, o)
	if err != nil || r.Sound() {
		return fmt.Sprintf("refused, and Check finds nothing: %v", err)
	}
	_, err = Repair(ctx, dup, o)
	if errors.Is(err, shardlog.ErrCorrupt) {
		return "" // nothing can be read
	}
	if err != nil {
		return "not repaired: " + err.Error()
	}
	db, err := Open(dup, o)
	if err != nil {
		return "not opened after a repair: " + err.Error()
	}
	defer db.Close()
	st, err := db.Stream(ctx, "s")
	if errors.Is(err, shardlog.ErrNotFound) {
		return "" // its metadata is lost
	}
	if err != nil {
		return "no stream after a repair: " + err.Error()
	}
	if _, faults, _ := readDamaged(ctx, st); faults != "" && !strings.Contains(faults, "corrupt") {
		return "wrong after a repair: " + faults
	}
	return ""
}

// readDamaged reads what can be read.
func readDamaged(ctx context.Context, st *Stream) (found int, faults string, last shardlog.SequenceNumber) {
	from := shardlog.TrimHorizon()
	next := 0
	for range 1000 {
		var corrupt *shardlog.CorruptError
		more := false
		for rec, err := range st.Records(ctx, damageShard, from) {
			if err != nil {
				faults += err.Error() + "; "
				if more = errors.As(err, &corrupt); more {
					from = corrupt.Next
				}
				break
			}
			i := -1
			_, _ = fmt.Sscan(string(rec.Data), &i)
			if i < next || i >= damageRecords || !bytes.Equal(damageRecord(i).Data, rec.Data) {
				return found, fmt.Sprintf("record %d is not as it was, or comes after %d", i, next-1), last
			}
			next, last = i+1, rec.Sequence
			found++
		}
		if !more {
			break
		}
	}
	return found, faults, last
}
