package consumer

import (
	"errors"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// answerRequests does what Pause and Seek ask for, before each batch. It returns
// false when reading was stopped.
func (t *task) answerRequests() (again bool, err error) {
	for t.reading.Err() == nil {
		t.change = t.r.pauses.changed() // before looking, so that none is missed
		if s := t.r.pauses.take(t.duty); s != nil {
			s.err = t.seekTo(s.pos)
			close(s.done)
			if errors.Is(s.err, ErrLeaseLost) {
				return false, s.err
			}
		}
		if !t.r.pauses.paused(t.id) {
			return true, nil
		}
		if err := t.save(); err != nil {
			return false, err
		}
		t.r.block(t.id, t.epoch, "paused")
		select {
		case <-t.change:
			t.r.block(t.id, t.epoch, "")
		case <-t.reading.Done():
		}
	}
	return false, nil
}

// seekTo makes pos the checkpoint and reads from there.
func (t *task) seekTo(pos shardlog.Position) error {
	<-t.lock
	err := t.lease.Commit(func(l *checkpoint.Lease) {
		l.Checkpoint, l.Switches, l.Prepared, l.PreparedState = pos, 0, nil, nil
	})
	if err == nil {
		t.pos, t.given = pos, shardlog.Position{}
		t.seeks++
	}
	t.free()
	if err != nil {
		return err
	}
	t.fetch.stop()
	t.rest, t.chunk = nil, nil
	t.fetch = t.fetchFrom(pos)
	return nil
}
