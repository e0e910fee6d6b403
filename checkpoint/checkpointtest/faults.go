package checkpointtest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// Fault is something that goes wrong between a store and its server.
type Fault int

// The faults.
const (
	// LostRequest: the next write does not reach the server.
	LostRequest Fault = iota + 1
	// LostAnswer: the server makes the next write, but its answer is lost.
	LostAnswer
	// Throttled: the server refuses the next write because of its load.
	Throttled
)

// String is the fault in words.
func (f Fault) String() string {
	return map[Fault]string{LostRequest: "a lost request", LostAnswer: "a lost answer", Throttled: "throttling"}[f]
}

// Faulty is a store whose way to its server can be disturbed, for RunFaults.
type Faulty struct {
	// Store is empty.
	Store checkpoint.Store
	// Inject lets the next write of the store meet a fault, once; what is
	// repeated after it goes well. It returns false for faults that the store
	// cannot meet.
	Inject func(Fault) bool
}

// RunFaults checks what a store answers when its server does not. Open returns
// an empty store each time; it may use t.TempDir and t.Cleanup.
func RunFaults(t *testing.T, open func(t *testing.T) Faulty) {
	for _, r := range faultRules() {
		t.Run(r.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := r.check(ctx, open(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

// CheckFaults checks the same without a test, and returns an error for each
// rule that is broken.
func CheckFaults(open func() Faulty) (broken []error) {
	for _, r := range faultRules() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		if err := r.check(ctx, open()); err != nil {
			broken = append(broken, fmt.Errorf("%s: %w", r.name, err))
		}
		cancel()
	}
	return broken
}

type faultRule struct {
	name  string
	check func(ctx context.Context, f Faulty) error
}

func faultRules() (rules []faultRule) {
	for _, f := range []Fault{LostRequest, LostAnswer, Throttled} {
		rules = append(rules,
			faultRule{fmt.Sprintf("create after %v", f), func(ctx context.Context, d Faulty) error { return faultyCreate(ctx, d, f) }},
			faultRule{fmt.Sprintf("update after %v", f), func(ctx context.Context, d Faulty) error { return faultyUpdate(ctx, d, f) }},
			faultRule{fmt.Sprintf("delete after %v", f), func(ctx context.Context, d Faulty) error { return faultyDelete(ctx, d, f) }},
		)
	}
	return rules
}

// checkUnknown returns nil if err is what a store may say of a write that met f: it
// either finds out by itself that the write was made, or says that it does not
// know. Any other error would be about another write.
func checkUnknown(op string, f Fault, err error) error {
	if err == nil || errors.Is(err, checkpoint.ErrUnavailable) {
		return nil
	}
	return fmt.Errorf("%s with %v: got error %q, want none or one that matches %q", op, f, err, checkpoint.ErrUnavailable)
}

func faultyCreate(ctx context.Context, d Faulty, f Fault) error {
	s, l := d.Store, full()
	if !d.Inject(f) {
		return nil
	}
	told, err := s.Create(ctx, l)
	if e := checkUnknown("create", f, err); e != nil {
		return e
	}
	made := err == nil
	switch got, err := s.Get(ctx, l.Key); {
	case made && (err != nil || got.Version != told.Version):
		return fmt.Errorf("create with %v succeeded, but the row is %+v, error %v", f, got, err)
	case errors.Is(err, shardlog.ErrNotFound):
		if _, err := s.Create(ctx, l); err != nil {
			return fmt.Errorf("create again: %w", err)
		}
	case err != nil:
		return fmt.Errorf("get: %w", err)
	}
	return stored(ctx, s, l)
}

func faultyUpdate(ctx context.Context, d Faulty, f Fault) error {
	s := d.Store
	before, err := s.Create(ctx, full())
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	after := moved(before, 200)
	if !d.Inject(f) {
		return nil
	}
	told, err := s.Update(ctx, after)
	if e := checkUnknown("update", f, err); e != nil {
		return e
	}
	got, getErr := s.Get(ctx, before.Key)
	switch {
	case getErr != nil:
		return fmt.Errorf("get: %w", getErr)
	case err == nil && got.Version != told.Version:
		return fmt.Errorf("update with %v succeeded with version %d, but the row has %d", f, told.Version, got.Version)
	case got.Version == before.Version:
		if err := stored(ctx, s, before); err != nil {
			return fmt.Errorf("update with %v was half made: %w", f, err)
		}
		if _, err := s.Update(ctx, after); err != nil {
			return fmt.Errorf("update again, of a row that did not change: %w", err)
		}
	default:
		_, err := s.Update(ctx, after)
		if err := wantError("update with the old version, of a row that did change", err, shardlog.ErrConflict); err != nil {
			return err
		}
	}
	return stored(ctx, s, after)
}

func faultyDelete(ctx context.Context, d Faulty, f Fault) error {
	s := d.Store
	l, err := s.Create(ctx, full())
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if !d.Inject(f) {
		return nil
	}
	err = s.Delete(ctx, l)
	if e := checkUnknown("delete", f, err); e != nil {
		return e
	}
	deleted := err == nil
	switch _, err := s.Get(ctx, l.Key); {
	case err == nil && deleted:
		return fmt.Errorf("delete with %v succeeded, but the row is there", f)
	case err == nil:
		if err := stored(ctx, s, l); err != nil {
			return fmt.Errorf("delete with %v was half made: %w", f, err)
		}
		if err := s.Delete(ctx, l); err != nil {
			return fmt.Errorf("delete again: %w", err)
		}
	}
	_, err = s.Get(ctx, l.Key)
	return wantError("get of a deleted row", err, shardlog.ErrNotFound)
}
