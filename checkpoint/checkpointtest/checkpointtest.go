// Package checkpointtest is the conformance kit for implementations of
// checkpoint.Store.
//
//	func TestConformance(t *testing.T) {
//		checkpointtest.Run(t, func(t *testing.T) checkpoint.Store { return mystore.Open(t.TempDir()) })
//	}
//
// Run it with -race too. RunTx has the rules for stores with transactions,
// RunReopen those for stores that outlast the process, RunShared those for
// stores that several processes use, RunFaults those for what happens when a
// request or its answer is lost or the server refuses for now, and RunMany
// looks at a large group.
package checkpointtest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/shardlog/shardlog/checkpoint"
)

// Rule is one property that every store has.
type Rule struct {
	// Name says what holds.
	Name string
	// Check returns what it found wrong, or nil. The store is empty, and no
	// other rule uses it.
	Check func(ctx context.Context, s checkpoint.Store) error
}

// patience bounds one rule, so that a store that hangs fails and does not
// stall the whole test run.
const patience = 2 * time.Minute

// Run checks every rule in a subtest of its own. Open returns an empty store
// each time; it may use t.TempDir and t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) checkpoint.Store) {
	for _, r := range Rules() {
		t.Run(r.Name, func(t *testing.T) {
			if err := r.run(open(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

// Check checks every rule without a test and returns an error for each one
// that is broken, which names the rule. Open returns an empty store each time.
func Check(open func() checkpoint.Store) []error {
	var broken []error
	for _, r := range Rules() {
		if err := r.run(open()); err != nil {
			broken = append(broken, fmt.Errorf("%s: %w", r.Name, err))
		}
	}
	return broken
}

func (r Rule) run(s checkpoint.Store) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return r.Check(ctx, s)
}

// Rules returns all rules, in the order in which they are best read.
func Rules() []Rule {
	return []Rule{
		{"every field survives", everyField},
		{"a row keeps its stream", sameKeyOtherStream},
		{"create finds an existing row", createTwice},
		{"missing rows are not found", missingRows},
		{"a stale update is refused", staleUpdate},
		{"versions grow", versionsGrow},
		{"a version is not used again after delete and create", noVersionReuse},
		{"a stale delete is refused", staleDelete},
		{"one of many concurrent updates wins", oneUpdateWins},
		{"one of many concurrent creates wins", oneCreateWins},
		{"list is complete, sorted and separate", listComplete},
		{"list sees completed writes", listFresh},
		{"awkward names are kept apart", awkwardNames},
		{"rows are not shared with the caller", noAliasing},
		{"cleared fields are cleared", clearing},
		{"prepared state of 64 KiB survives", largeState},
		{"an ended context writes nothing", endedContext},
		{"times survive to the millisecond", times},
		{"counters above 2^53 survive", largeCounters},
		{"rows outside the limits are refused", invalidRows},
		{"a watcher is notified of what matters", watchNotifies},
	}
}

// key is the key that most rules use.
func key(shard string) checkpoint.Key {
	return checkpoint.Key{Group: "group", Stream: "stream", Shard: shard}
}

// wantError reports that err is not what the Store interface promises.
func wantError(op string, err, want error) error {
	switch {
	case errors.Is(err, want):
		return nil
	case err == nil:
		return fmt.Errorf("%s succeeded, want an error that matches %q", op, want)
	}
	return fmt.Errorf("%s: got error %q, want one that matches %q", op, err, want)
}
