package kinesisapi

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
	"github.com/shardlog/shardlog/stream"
)

// registry finds the streams of a database by account, region and name, and
// owns what is kept about each. It is safe for concurrent use.
type registry struct {
	db     *stream.DB
	stamps *stampSet

	mu     sync.RWMutex
	states map[string]*streamState // by name in the database
}

// find returns the stream with a name in a scope. The error is noStream or that
// of the database.
func (r *registry) find(ctx context.Context, sc awswire.Scope, name string, clock *awswire.Clock) (*streamState, error) {
	s, err := r.findStored(ctx, sc, name, name, clock)
	if s == nil && err == nil {
		s, err = r.findStored(ctx, sc, name, qualifiedName(sc, name), clock)
	}
	if s == nil && err == nil {
		err = noStream(sc, name)
	}
	return s, err
}

// findStored returns the stream with a name in the database if it has the name
// in the scope, or nil.
func (r *registry) findStored(ctx context.Context, sc awswire.Scope, name, stored string, clock *awswire.Clock) (*streamState, error) {
	st, err := r.db.Stream(ctx, stored)
	if errors.Is(err, shardlog.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if s := r.stateOf(st); s.visible(sc, name) && !r.finishDeletion(ctx, s, clock) {
		return s, nil
	}
	return nil, nil
}

// stateOf returns what is kept about a stream of the database. A stream that
// was deleted and created again is another one, with a state of its own.
func (r *registry) stateOf(st *stream.Stream) *streamState {
	r.mu.RLock()
	s := r.states[st.Name()]
	r.mu.RUnlock()
	if s != nil && s.st == st {
		return s
	}
	r.mu.Lock()
	old := r.states[st.Name()]
	if old != nil && old.st == st {
		r.mu.Unlock()
		return old
	}
	s = newState(st)
	r.states[st.Name()] = s
	r.mu.Unlock()
	if old != nil {
		// The process has deleted it, and made another one under its name.
		old.subscriptions.endAll()
	}
	return s
}

// owned returns the streams of a scope, by name.
func (r *registry) owned(ctx context.Context, sc awswire.Scope, clock *awswire.Clock) ([]*streamState, error) {
	streams, err := r.db.Streams(ctx)
	if err != nil {
		return nil, err
	}
	var all []*streamState
	for _, st := range streams {
		s := r.stateOf(st)
		if s.visible(sc, s.id.Name) && !r.finishDeletion(ctx, s, clock) {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *streamState) int { return cmp.Compare(a.id.Name, b.id.Name) })
	return all, nil
}

// create makes a stream, under another name if its own is taken by another
// account or region. The error is streamExists or that of the database.
func (r *registry) create(ctx context.Context, sc awswire.Scope, name string, cfg stream.Config) (*streamState, error) {
	// A name that looks like a qualified one is stored as a qualified one, so
	// that it does not take the place of the other account's stream.
	var st *stream.Stream
	err := shardlog.ErrExists
	if !looksQualified(name) {
		st, err = r.db.Create(ctx, name, cfg)
	}
	if errors.Is(err, shardlog.ErrExists) {
		if other, e := r.db.Stream(ctx, name); e == nil && r.stateOf(other).visible(sc, name) {
			return nil, streamExists(sc, name)
		}
		st, err = r.db.Create(ctx, qualifiedName(sc, name), cfg)
	}
	if errors.Is(err, shardlog.ErrExists) {
		return nil, streamExists(sc, name)
	}
	if err != nil {
		return nil, err
	}
	return r.stateOf(st), nil
}

// finishDeletion carries out a deletion whose time has come, and reports whether
// the stream is gone. Where the database fails, the stream is still there.
func (r *registry) finishDeletion(ctx context.Context, s *streamState, clock *awswire.Clock) (gone bool) {
	t := s.change.Load()
	if t == nil || t.status != statusDeleting || !t.over(clock) {
		return false
	}
	return r.remove(ctx, s) == nil
}

// remove deletes a stream from the database unless it is gone already. The
// name may be that of a newer stream by then, which is left alone.
func (r *registry) remove(ctx context.Context, s *streamState) error {
	if err := s.removal.Lock(ctx); err != nil {
		return err
	}
	defer s.removal.Unlock()
	if s.gone {
		return nil
	}
	st, err := r.db.Stream(ctx, s.st.Name())
	if err == nil && st == s.st {
		err = r.db.Delete(ctx, s.st.Name())
	}
	if err != nil && !errors.Is(err, shardlog.ErrNotFound) {
		return err
	}
	s.gone = true
	r.forget(s)
	return nil
}

// forget drops what is kept about a stream that is gone.
func (r *registry) forget(s *streamState) {
	r.mu.Lock()
	if r.states[s.st.Name()] == s {
		delete(r.states, s.st.Name())
	}
	r.mu.Unlock()
	s.subscriptions.endAll()
}

// removeAll deletes all streams of the database, those that were created in the
// process as well.
func (r *registry) removeAll(ctx context.Context) error {
	streams, err := r.db.Streams(ctx)
	if err != nil {
		return err
	}
	for _, st := range streams {
		if err := r.remove(ctx, r.stateOf(st)); err != nil {
			return err
		}
	}
	return nil
}
