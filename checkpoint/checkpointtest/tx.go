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
