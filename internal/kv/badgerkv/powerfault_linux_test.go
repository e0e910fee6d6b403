package badgerkv_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv/badgerkv"
	"github.com/shardlog/shardlog/internal/kv/powerloss"
)

// mode returns the mode with a name.
func mode(name string) powerMode {
	return powerModes[slices.IndexFunc(powerModes, func(m powerMode) bool { return m.name == name })]
}

// The defects that TestPowerLoss is there for are found by it.
func TestPowerLossFindsDefects(t *testing.T) {
	seed := powerSeed(t)
	small, tiny, mixed := powerModes[0], powerModes[2], powerModes[1]
	unsynced, unmapped := mode("unsynced"), mode("not mapped")
	unmapped.changing, unmapped.unsynced = false, true
	tests := []struct {
		name   string
		mode   powerMode
		faults powerloss.Faults
		torn   bool
	}{
		{name: "the redo log is not synced", mode: small, faults: powerloss.Faults{NoRingSync: true}},
		{name: "the logs of memtables are not synced", mode: tiny, faults: powerloss.Faults{NoSync: powerloss.WAL}},
		{name: "the value log is not synced", mode: tiny, faults: powerloss.Faults{NoSync: powerloss.Values}},
		{name: "the ring is given back before the sync", mode: tiny, faults: powerloss.Faults{LateSync: true}},
		{name: "the directory is not synced", mode: tiny, faults: powerloss.Faults{NoDirSync: true}},
		{name: "torn batches are kept", mode: mixed, torn: true},
		{name: "the mapped redo log is not synced", mode: unsynced, faults: powerloss.Faults{NoFrameSync: true}},
		{name: "the redo log with entries is not synced", mode: unmapped, faults: powerloss.Faults{NoFrameSync: true}},
		{name: "what takes the place of entries is not synced", mode: unsynced, faults: powerloss.Faults{NoSync: powerloss.WAL}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			badgerkv.KeepTorn(test.torn)
			defer badgerkv.KeepTorn(false)
			p := newPowerRun(t, test.mode, seed)
			p.faults = test.faults
			for range 30 {
				if p.hasFailed() {
					break
				}
				p.fresh()
				dir, err := os.MkdirTemp(p.root, "live")
				require.NoError(t, err)
				p.once = true // a power loss from which the next one starts would end the test
				p.live(t, dir, 60)
			}
			p.end()
			require.NotEmpty(t, p.failures, "the defect was not found in %d states", p.states.Load())
			t.Logf("after %d states: %.300s", p.states.Load(), p.failures[0])
		})
	}
}

// When an operation on the redo log fails, nothing is acknowledged any more, and
// what was is there when the store is opened again, whether the power is lost or
// not.
func TestEachOperationOnTheRedoLogFails(t *testing.T) {
	seed := powerSeed(t)
	// Of the first one the ring is given back and wraps often.
	for _, name := range []string{"tiny ring", "unsynced", "not mapped"} {
		t.Run(name, func(t *testing.T) {
			m := mode(name)
			if m.changing {
				m.changing, m.unsynced = false, true
			}
			for n := 1; ; n++ {
				p := newPowerRun(t, m, seed)
				p.every = 40
				failed := p.fails(t, n)
				p.end()
				require.Empty(t, p.failures)
				if !failed {
					t.Logf("%d operations", n-1)
					return
				}
				if n > 40 {
					n += p.rnd.Intn(1 + n/10)
				}
				if badgerkv.RaceDetector {
					n += p.rnd.Intn(8)
				}
			}
		})
	}
}

// fails runs a store of which the n-th operation on the redo log fails.
func (p *powerRun) fails(t *testing.T, n int) (failed bool) {
	dir, err := os.MkdirTemp(p.root, "live")
	require.NoError(t, err)
	rec, err := powerloss.New(dir)
	require.NoError(t, err)
	rec.OnPoint = p.point
	broken := errors.New("input/output error")
	rec.FailRing = func(i int, _ string) error {
		if i == n {
			return broken
		}
		return nil
	}
	rec.Unmapped = p.mode.unmapped
	p.sync, p.loose = !p.mode.unsynced, p.mode.unsynced
	s, err := badgerkv.Open(p.mode.options(dir, rec.Disk(), p.sync))
	if err != nil {
		require.ErrorIs(t, err, broken)
		p.stays(t, rec, dir)
		return true
	}
	if err := new(powerFound).restart(s); err != nil {
		require.ErrorIs(t, err, shardlog.ErrStorage)
		require.Error(t, s.Close())
		p.stays(t, rec, dir)
		return true
	}
	for range 25 {
		if err = p.commit(s); err != nil {
			break
		}
	}
	if err == nil {
		err = s.Sync()
	}
	if err == nil {
		err = s.Close()
		if err != nil {
			require.ErrorContains(t, err, broken.Error())
		}
		p.stays(t, rec, dir)
		return err != nil
	}
	require.ErrorIs(t, err, shardlog.ErrStorage)
	for range 3 {
		require.ErrorIs(t, set(s, "after", nil), shardlog.ErrStorage, "acknowledged after a failure of operation %d", n)
	}
	require.Error(t, s.Sync())
	rec.Look("failed")
	require.Error(t, s.Close())
	rec.Look("closed after a failure")
	p.stays(t, rec, dir)
	return true
}

// stays ends the recording, and opens what is left without a power loss.
func (p *powerRun) stays(t *testing.T, rec *powerloss.Recorder, dir string) {
	require.NoError(t, rec.Close())
	from := int(p.acked.Load())
	j := powerJob{dir: dir, model: p.model, digests: p.model.digests[from:], from: from, what: "without a power loss", sync: true}
	require.NoError(t, p.check(j), fmt.Sprint("after ", from, " batches"))
}

// A process that is killed while it recovers from a power loss, or after that, leaves
// what the next one can open: that commits are missing is the power's doing, although
// the system has run since.
func TestAKillAfterAPowerLoss(t *testing.T) {
	seed := powerSeed(t)
	for i, name := range []string{"small", "mixed", "unsynced", "not mapped"} {
		p := newPowerRun(t, mode(name), seed+int64(i))
		for range 2 {
			p.fresh()
			dir, err := os.MkdirTemp(p.root, "live")
			require.NoError(t, err)
			p.every, p.torn, p.quiet = 2, true, true
			next := p.live(t, dir, 30)
			p.quiet, p.only = false, []powerloss.Choice{powerloss.Killed()}
			p.live(t, next, 3)
			p.only = nil
		}
		p.end()
		require.Empty(t, p.failures)
		require.NotZero(t, p.states.Load())
	}
}
