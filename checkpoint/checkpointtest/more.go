package checkpointtest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// Transactional is a store and the transactions of its database, for RunTx.
type Transactional[Tx any] struct {
	// Store is empty.
	Store checkpoint.TxStore[Tx]
	// Begin begins a transaction.
	Begin func(ctx context.Context) (Tx, error)
	// Commit and RollBack end one.
	Commit   func(ctx context.Context, tx Tx) error
	RollBack func(tx Tx)
}

// RunTx checks the rules of checkpoint.TxStore. Open returns an empty store
// each time; it may use t.TempDir and t.Cleanup. Transactions are not begun
// while another one of the rule is open, except where one has only read.
func RunTx[Tx any](t *testing.T, open func(t *testing.T) Transactional[Tx]) {
	for _, r := range txRules[Tx]() {
		t.Run(r.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := r.check(ctx, open(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

// CheckTx checks the same without a test, and returns an error for each rule
// that is broken.
func CheckTx[Tx any](open func() Transactional[Tx]) (broken []error) {
	for _, r := range txRules[Tx]() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		if err := r.check(ctx, open()); err != nil {
			broken = append(broken, fmt.Errorf("%s: %w", r.name, err))
		}
		cancel()
	}
	return broken
}

type txRule[Tx any] struct {
	name  string
	check func(ctx context.Context, d Transactional[Tx]) error
}

func txRules[Tx any]() []txRule[Tx] {
	return []txRule[Tx]{
		{"a rollback leaves no trace", txRollBack[Tx]},
		{"a commit stores what UpdateTx returned", txCommit[Tx]},
		{"a stale version is refused in a transaction", txStale[Tx]},
		{"a row that changes before the commit is not overwritten", txConflict[Tx]},
	}
}

// moved is l with another checkpoint.
func moved(l checkpoint.Lease, n uint64) checkpoint.Lease {
	l = l.Clone()
	l.Checkpoint = shardlog.After(seq(n))
	return l
}

func txRollBack[Tx any](ctx context.Context, d Transactional[Tx]) error {
	row, err := d.Store.Create(ctx, full())
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	tx, err := d.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if _, err := d.Store.UpdateTx(ctx, tx, moved(row, 200)); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	d.RollBack(tx)
	got, err := d.Store.Get(ctx, row.Key)
	if err != nil || got.Version != row.Version || got.Checkpoint != row.Checkpoint {
		return fmt.Errorf("after the rollback the row is %+v, error %v", got, err)
	}
	return nil
}

func txCommit[Tx any](ctx context.Context, d Transactional[Tx]) error {
	row, err := d.Store.Create(ctx, full())
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	for n := uint64(1); n < 4; n++ {
		tx, err := d.Begin(ctx)
		if err != nil {
			return fmt.Errorf("begin: %w", err)
		}
		told, err := d.Store.UpdateTx(ctx, tx, moved(row, 200+n))
		if err != nil {
			return fmt.Errorf("update: %w", err)
		}
		if err := d.Commit(ctx, tx); err != nil {
			return fmt.Errorf("commit: %w", err)
		}
		got, err := d.Store.Get(ctx, row.Key)
		switch {
		case err != nil:
			return fmt.Errorf("get: %w", err)
		case got.Version != told.Version || told.Version <= row.Version:
			return fmt.Errorf("version %d was returned after %d, the row has %d", told.Version, row.Version, got.Version)
		case got.Checkpoint != shardlog.After(seq(200+n)):
			return fmt.Errorf("after the commit the checkpoint is %v", got.Checkpoint)
		}
		if row, err = d.Store.Update(ctx, moved(told, 300+n)); err != nil {
			return fmt.Errorf("update with the version that was returned: %w", err)
		}
	}
	return nil
}

func txStale[Tx any](ctx context.Context, d Transactional[Tx]) error {
	old, err := d.Store.Create(ctx, full())
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if _, err := d.Store.Update(ctx, moved(old, 200)); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	missing := moved(old, 100)
	missing.Key = key("missing")
	for _, c := range []struct {
		row  checkpoint.Lease
		want error
	}{{moved(old, 100), shardlog.ErrConflict}, {missing, shardlog.ErrNotFound}} {
		tx, err := d.Begin(ctx)
		if err != nil {
			return fmt.Errorf("begin: %w", err)
		}
		_, err = d.Store.UpdateTx(ctx, tx, c.row)
		d.RollBack(tx)
		if err := wantError("update in a transaction", err, c.want); err != nil {
			return err
		}
	}
	return nil
}

// txConflict changes the row after the transaction has begun and before it
// touches it, and, where the database lets it, between that and the commit.
func txConflict[Tx any](ctx context.Context, d Transactional[Tx]) error {
	row, err := d.Store.Create(ctx, full())
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	tx, err := d.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if _, err := d.Store.UpdateTx(ctx, tx, moved(row, 200)); err != nil {
		d.RollBack(tx)
		return fmt.Errorf("update: %w", err)
	}
	taken := row.Clone()
	taken.Owner = "another"
	// A database that locks makes the writer wait for the transaction; then
	// the writer is the one that must not get through.
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	taken, takenErr := d.Store.Update(short, taken)
	cancel()
	commitErr := d.Commit(ctx, tx)
	if takenErr == nil && commitErr == nil {
		return errors.New("two writers of one version have both succeeded")
	}
	if commitErr != nil {
		d.RollBack(tx)
	}
	got, err := d.Store.Get(ctx, row.Key)
	if err != nil {
		return fmt.Errorf("get: %w", err)
	}
	if takenErr == nil && got.Owner != taken.Owner || commitErr == nil && got.Checkpoint != shardlog.After(seq(200)) {
		return fmt.Errorf("the row is not the winner's: %+v", got)
	}
	return nil
}

// RunReopen checks that rows outlast a store that is closed and opened again.
// Open returns an empty store, and a function that closes it, or leaves it as a
// crash does, and opens it again.
func RunReopen(t *testing.T, open func(t *testing.T) (s checkpoint.Store, reopen func() checkpoint.Store)) {
	t.Run("rows outlast the store", func(t *testing.T) {
		s, reopen := open(t)
		if err := CheckReopen(s, reopen); err != nil {
			t.Error(err)
		}
	})
}

// CheckReopen is RunReopen without a test.
func CheckReopen(s checkpoint.Store, reopen func() checkpoint.Store) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	row, err := s.Create(ctx, full())
	if err == nil {
		row, err = s.Update(ctx, moved(row, 200))
	}
	var gone checkpoint.Lease
	if err == nil {
		gone, err = s.Create(ctx, checkpoint.Lease{Key: key("gone")})
	}
	if err == nil {
		err = s.Delete(ctx, gone)
	}
	if err != nil {
		return err
	}
	s = reopen()
	if err := stored(ctx, s, row); err != nil {
		return fmt.Errorf("after opening again: %w", err)
	}
	got, err := s.Get(ctx, row.Key)
	if err != nil || got.Version != row.Version {
		return fmt.Errorf("after opening again version %d is %d, error %v", row.Version, got.Version, err)
	}
	_, err = s.Get(ctx, gone.Key)
	if err := wantError("get of a row that was deleted before", err, shardlog.ErrNotFound); err != nil {
		return err
	}
	again, err := s.Create(ctx, checkpoint.Lease{Key: gone.Key})
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if again.Version == gone.Version {
		return fmt.Errorf("version %d was given again after delete, opening again and create", again.Version)
	}
	return nil
}

// watchTells applies to stores that are a checkpoint.Watcher.
func watchTells(ctx context.Context, s checkpoint.Store) error {
	w, ok := s.(checkpoint.Watcher)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	k := key("s")
	told := w.Watch(ctx, k.Group, k.Stream)
	other := w.Watch(ctx, k.Group, "other")
	wait := func(what string) error {
		select {
		case <-told:
			return nil
		case <-time.After(2 * time.Second):
			return fmt.Errorf("the watcher was not notified that %s", what)
		}
	}
	l, err := s.Create(ctx, checkpoint.Lease{Key: k})
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if err := wait("a row was created"); err != nil {
		return err
	}
	for what, change := range map[string]func(l *checkpoint.Lease){
		"the owner is another": func(l *checkpoint.Lease) { l.Owner += "x" },
		"it is asked for":      func(l *checkpoint.Lease) { l.Next += "x" },
		"it has ended":         func(l *checkpoint.Lease) { l.Ended = true },
	} {
		change(&l)
		if l, err = s.Update(ctx, l); err != nil {
			return fmt.Errorf("update: %w", err)
		}
		if err := wait(what); err != nil {
			return err
		}
	}
	if err := s.Delete(ctx, l); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	if err := wait("it was deleted"); err != nil {
		return err
	}
	select {
	case <-other:
		return errors.New("the watcher of another stream was notified")
	default:
		return nil
	}
}
