package logstore

import (
	"context"
	"time"

	"github.com/shardlog/shardlog"
)

// Participant is state beside the records that must be stored in the same
// transaction as some of them: what a producer has stored, for example. Its
// tickets are what the rider made of each call; see Trip. The committer calls
// both methods, without a lock held; they must be quick, must not fail and must
// not call the log.
type Participant interface {
	// Prepare adds what the tickets change to the transaction that stores their
	// records. Nothing of it is certain yet: the transaction may fail.
	Prepare(tickets []any, tx *Tx)
	// Finish tells the outcome of the tickets, nil if they are stored, before
	// those who wait for the group go on. Tickets of a group that was given
	// up because the one before it failed were not staged.
	Finish(tickets []any, err error)
}

// ride is a rider in a group, and its tickets in the order in which they came.
type ride struct {
	rider   Participant
	tickets []any
}

// Bounds of what rides along in one group, beside the first that does.
const (
	maxRides = 128
	// rideInline is for what the store may keep in its tree, in bytes; with
	// the keys of a group's blocks it stays below maxInline, so that it never
	// keeps other operations out for ever.
	rideInline = 24 << 10
)

// AppendOptions says what goes along with the records of AppendWith.
type AppendOptions struct {
	// Check, if set, is called with the log locked, before records join a
	// group. Its error refuses them.
	Check func() error
	// Joined, if set, is called with the log locked when the records from up to
	// and without to have joined a group: those that have no error in their
	// results. It calls ride for each rider that goes along.
	Joined func(from, to int, ride func(Participant, any))
	// InlineBytes is how many bytes of keys and small values the riders of one call
	// may add to a transaction.
	InlineBytes int
	// Atomic puts all records into one group, whatever their size, so that they
	// are stored together or not at all; the call fails as a whole.
	Atomic bool
	// Arrivals, unless nil, gets the arrival of each record, in Unix
	// milliseconds, before Join is called.
	Arrivals []int64
}

// AppendWith is Append for records that something goes along with. Without
// records it stores what rides along alone. The results of records that joined
// no group are errors, and so is the whole call's error if none did.
func (l *Log) AppendWith(ctx context.Context, records []shardlog.Record, targets []*Shard, res []shardlog.PutResult, trip *AppendOptions) error {
	if err := ctx.Err(); err != nil {
		return shardlog.ContextError(ctx)
	}
	for from := 0; ; {
		g, to, err := l.board(ctx, records, targets, res, from, trip)
		if err == nil {
			err = g.wait(ctx)
			if err != nil && (trip.Atomic || len(records) == 0) {
				return err
			}
			for i := from; i < to && err != nil; i++ {
				if res[i].Err == nil {
					res[i] = shardlog.PutResult{Err: err}
				}
			}
		} else if from == 0 {
			return err
		}
		if err != nil {
			setErr(res[to:], notTried(err))
			return nil
		}
		if from = to; from == len(records) {
			return nil
		}
	}
}

// board adds records to the open group until it is full, with what rides
// along. It returns the group and the index of the first record left.
func (l *Log) board(ctx context.Context, records []shardlog.Record, targets []*Shard, res []shardlog.PutResult, from int, trip *AppendOptions) (*group, int, error) {
	l.mu.Lock()
	for {
		if err := l.awaitRoom(ctx); err != nil {
			return nil, from, err
		}
		if n := len(l.open.rides); n == 0 || n < maxRides && l.open.riding+trip.InlineBytes <= rideInline {
			break
		}
		if err := l.awaitNext(ctx); err != nil {
			return nil, from, err
		}
	}
	defer l.mu.Unlock()
	if trip.Check != nil {
		if err := trip.Check(); err != nil {
			return nil, from, err
		}
	}
	for i := from; i < len(records) && trip.Atomic; i++ {
		if targets[i].closed {
			return nil, from, shardlog.ErrShardClosed
		}
	}
	g := l.open
	ms := time.Now().UnixMilli()
	i := from
	for ; i < len(records) && (trip.Atomic || g.bytes < groupBytes); i++ {
		s := targets[i]
		if s.closed {
			res[i] = shardlog.PutResult{Err: shardlog.ErrShardClosed}
			continue
		}
		res[i] = shardlog.PutResult{ShardID: s.name, Sequence: s.add(g, &records[i], ms)}
		if trip.Arrivals != nil {
			trip.Arrivals[i] = s.lastMs
		}
	}
	if trip.Joined != nil {
		trip.Joined(from, i, g.ride)
	}
	if g.empty() {
		return settledGroup, i, nil // a group of nothing is never committed
	}
	g.riding += trip.InlineBytes
	g.calls++
	l.wakeCommitter()
	return g, i, nil
}

// settledGroup stands for the group of a call that had nothing to store.
var settledGroup = func() *group { g := newGroup(); close(g.done); return g }()

// awaitNext waits, with mu held but not while it waits, until the open group
// was taken. If there is an error, mu is not held any more.
func (l *Log) awaitNext(ctx context.Context) error {
	if l.room == nil {
		l.room = make(chan struct{})
	}
	room := l.room
	l.mu.Unlock()
	select {
	case <-room:
	case <-ctx.Done():
		return shardlog.ContextError(ctx)
	}
	l.mu.Lock()
	return nil
}

// ride adds a ticket to the group.
func (g *group) ride(r Participant, ticket any) {
	for _, x := range g.rides {
		if x.rider == r {
			x.tickets = append(x.tickets, ticket)
			return
		}
	}
	g.rides = append(g.rides, &ride{r, []any{ticket}})
}

// stage adds what rides along to the batch.
func (w *write) stage(g *group) {
	if len(g.rides) == 0 {
		return
	}
	before := w.c.batch.Bytes
	tx := &Tx{store: w.c.log.store, batch: &w.c.batch}
	for _, r := range g.rides {
		r.rider.Prepare(r.tickets, tx)
	}
	// As for operations: it is small, and overwritten in the end.
	w.c.log.dead.Add(int64(w.c.batch.Bytes - before))
}

// settle tells the riders of a group its outcome.
func (g *group) settle(err error) {
	for _, r := range g.rides {
		r.rider.Finish(r.tickets, err)
	}
}

// DoFinally is Do that calls finally once the outcome is certain, which may be
// after ctx has ended and the call has returned. Finally may be called with the
// log locked.
func (l *Log) DoFinally(ctx context.Context, apply func(*Tx) error, finally func()) error {
	queued := false
	err := l.submit(ctx, &op{
		small: true, apply: apply, commit: finally, abort: finally,
		enter: func() error { queued = true; return nil },
	})
	if !queued {
		finally()
	}
	return err
}

// Lost tells whether the record with the counter, which s was once given, is
// neither there nor removed by retention: the power went before it was synced.
func (s *Shard) Lost(counter uint64) bool {
	v := s.view.Load()
	if counter < v.horizon {
		return false
	}
	e, m, ok := v.find(counter)
	if !ok {
		return true
	}
	if m != nil {
		return m.b.First > counter
	}
	return e.first > counter
}
