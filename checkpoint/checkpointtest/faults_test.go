package checkpointtest_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
	"github.com/shardlog/shardlog/checkpoint/checkpointtest"
)

// remote is a store whose server fails on demand; answer makes the
// error that its client gives, of a write that was made or not.
type remote struct {
	*mem
	next   checkpointtest.Fault
	half   bool // a write that meets a fault is made in part
	answer func(f checkpointtest.Fault, err error) error
}

// meet does a write, with the fault that is due.
func (s *remote) meet(write func() error) error {
	f := s.next
	s.next = 0
	switch f {
	case 0:
		return write()
	case checkpointtest.LostAnswer:
		return s.answer(f, write())
	}
	return s.answer(f, nil)
}

func (s *remote) Create(c ctx, l lease) (out lease, err error) {
	err = s.meet(func() (err error) { out, err = s.mem.Create(c, l); return err })
	return out, err
}

func (s *remote) Update(c ctx, l lease) (out lease, err error) {
	if s.half && s.next != 0 {
		l.Owner = ""
	}
	err = s.meet(func() (err error) { out, err = s.mem.Update(c, l); return err })
	return out, err
}

func (s *remote) Delete(c ctx, l lease) error {
	return s.meet(func() error { return s.mem.Delete(c, l) })
}

func (s *remote) faulty() checkpointtest.Faulty {
	return checkpointtest.Faulty{Store: s, Inject: func(f checkpointtest.Fault) bool { s.next = f; return true }}
}

func honest(checkpointtest.Fault, error) error {
	return fmt.Errorf("%w: connection reset", checkpoint.ErrUnavailable)
}

func TestFaultDefectsAreFound(t *testing.T) {
	checkpointtest.RunFaults(t, func(*testing.T) checkpointtest.Faulty { return (&remote{mem: newMem(), answer: honest}).faulty() })
	// A store that need not repeat anything, because it found out by itself.
	checkpointtest.RunFaults(t, func(*testing.T) checkpointtest.Faulty {
		return (&remote{mem: newMem(), answer: func(f checkpointtest.Fault, err error) error {
			if f == checkpointtest.LostAnswer {
				return err
			}
			return honest(f, err)
		}}).faulty()
	})
	for _, d := range []struct {
		name, rule string
		answer     func(f checkpointtest.Fault, err error) error
	}{
		{"a repetition finds its own update", "update after a lost answer", func(f checkpointtest.Fault, err error) error {
			if f == checkpointtest.LostAnswer {
				return fmt.Errorf("%w: version", shardlog.ErrConflict)
			}
			return honest(f, err)
		}},
		{"a repetition finds its own row", "create after a lost answer", func(f checkpointtest.Fault, err error) error {
			if f == checkpointtest.LostAnswer {
				return shardlog.ErrExists
			}
			return honest(f, err)
		}},
		{"a repetition finds nothing to delete", "delete after a lost answer", func(f checkpointtest.Fault, err error) error {
			if f == checkpointtest.LostAnswer {
				return shardlog.ErrNotFound
			}
			return honest(f, err)
		}},
		{"errors are swallowed", "update after a lost request", func(checkpointtest.Fault, error) error { return nil }},
		{"errors are swallowed", "create after a lost request", func(checkpointtest.Fault, error) error { return nil }},
		{"errors are swallowed", "delete after a lost request", func(checkpointtest.Fault, error) error { return nil }},
		{"throttling has no name", "update after throttling", func(checkpointtest.Fault, error) error { return errors.New("slow down") }},
	} {
		t.Run(d.name+" in "+d.rule, func(t *testing.T) {
			broken := checkpointtest.CheckFaults(func() checkpointtest.Faulty { return (&remote{mem: newMem(), answer: d.answer}).faulty() })
			if !strings.Contains(errors.Join(append(broken, errors.New(""))...).Error(), d.rule+": ") {
				t.Errorf("rule %q did not find it; found: %v", d.rule, broken)
			}
		})
	}
}

func TestSharingDefectsAreFound(t *testing.T) {
	s := newMem()
	checkpointtest.RunShared(t, func(*testing.T) (checkpoint.Store, checkpoint.Store) { return s, wrapped{s} })
	if checkpointtest.CheckShared(newMem(), newMem()) == nil {
		t.Error("two stores that share nothing were not found")
	}
	s = newMem()
	if checkpointtest.CheckShared(s, &caching{mem: s, rows: map[checkpoint.Key]lease{}}) == nil {
		t.Error("a store that remembers what it read was not found")
	}
}

func TestHalfAWriteIsFound(t *testing.T) {
	broken := checkpointtest.CheckFaults(func() checkpointtest.Faulty {
		return (&remote{mem: newMem(), half: true, answer: honest}).faulty()
	})
	if len(broken) != 1 || !strings.HasPrefix(broken[0].Error(), "update after a lost answer: ") {
		t.Errorf("found: %v", broken)
	}
}

// wrapped is the same rows in another store.
type wrapped struct{ *mem }

// caching answers Get with what it saw last.
type caching struct {
	*mem
	rows map[checkpoint.Key]lease
}

func (s *caching) Get(c ctx, k checkpoint.Key) (lease, error) {
	if l, ok := s.rows[k]; ok {
		return l, nil
	}
	l, err := s.mem.Get(c, k)
	if err == nil {
		s.rows[k] = l
	}
	return l, err
}

func TestManyRows(t *testing.T) {
	checkpointtest.RunMany(t, func(*testing.T) checkpoint.Store { return newMem() })
	if checkpointtest.CheckMany(megabyte{newMem()}) == nil {
		t.Error("a list that ends after the first megabyte was not found")
	}
}

// megabyte lists as much as a page of a remote store has, with a continuation
// that nobody follows.
type megabyte struct{ *mem }

func (s megabyte) List(c ctx, group, stream string) ([]lease, error) {
	rows, err := s.mem.List(c, group, stream)
	return rows[:min(len(rows), 5000)], err
}
