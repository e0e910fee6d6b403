package logstore

import (
	"context"
	"fmt"

	"github.com/shardlog/shardlog"
)

// group is what one transaction will hold.
type group struct {
	parts         []*part
	ops           []*op
	attachments   []*attachment
	bytes         int
	attachedBytes int           // bytes that the attachments may add inline
	calls         int           // appends that wait for it
	done          chan struct{} // closed when err is final
	err           error
}

// newGroup returns an empty group. Mu is held, or the log is not shared yet.
func (l *Log) newGroup() *group {
	return &group{done: make(chan struct{}), parts: l.spare.list()}
}

func (g *group) empty() bool { return len(g.parts) == 0 && len(g.ops) == 0 && len(g.attachments) == 0 }

// op is a change that is not an append. Its functions run in this order; enter
// and abort with Log.mu held, apply and commit in the committer.
type op struct {
	enter  func() error    // when it joins the group; may be nil
	apply  func(*Tx) error // adds its changes
	commit func()          // after they are stored; may be nil
	abort  func()          // after apply or the commit failed; may be nil
	small  bool            // it only makes room; see kv.Batch
	done   chan struct{}
	err    error
}

// wait returns the outcome of g.
func (g *group) wait(ctx context.Context) error {
	if ctx.Done() == nil {
		<-g.done
		return g.err
	}
	select {
	case <-g.done:
		return g.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", shardlog.ErrUnknownOutcome, shardlog.ContextError(ctx))
	}
}

// attach adds an update of a participant to the group.
func (g *group) attach(p Participant, update any) {
	for _, x := range g.attachments {
		if x.participant == p {
			x.updates = append(x.updates, update)
			return
		}
	}
	g.attachments = append(g.attachments, &attachment{p, []any{update}})
}

// prepare lets the participants add what they change to the transaction.
func (g *group) prepare(tx *Tx) {
	for _, a := range g.attachments {
		a.participant.Prepare(a.updates, tx)
	}
}

// finish reports the outcome to the participants.
func (g *group) finish(err error) {
	for _, a := range g.attachments {
		a.participant.Finish(a.updates, err)
	}
}
