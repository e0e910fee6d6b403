package kinesisapi

import (
	"context"
	"encoding/json"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
)

// changeEncryption returns the history of a stream with a change that holds from
// now on; control is held and changing is set. Records that are put meanwhile are
// on one side of the change or the other.
func changeEncryption(ctx context.Context, s *streamState, kms bool) (*encryptionHistory, error) {
	all, err := s.st.Shards(ctx)
	if err != nil {
		return nil, err
	}
	ch := encryptionChange{kms: kms, from: map[uint32]uint64{}}
	first := map[uint32]uint64{}
	history := s.encryption.Load()
	for i := range all {
		index, _ := all[i].First.Shard()
		ch.shards = max(ch.shards, index+1)
		if !all[i].Closed {
			if ch.from[index], err = nextCounter(ctx, s, all[i].ID, shardlog.Latest()); err != nil {
				return nil, err
			}
		}
		if len(history.changes) > 0 {
			// Where the beginning of a shard is damaged, nothing is trimmed.
			first[index], _ = nextCounter(ctx, s, all[i].ID, shardlog.TrimHorizon())
		}
	}
	if len(history.changes) > 0 {
		history = history.trimmed(first)
	}
	return history.with(ch), nil
}

// setEncryption changes the setting of a stream and its history in one write, so
// that a crash leaves both or neither.
func setEncryption(c *call, kms bool) error {
	s, err := c.lockActive()
	if err != nil {
		return err
	}
	defer s.control.Unlock()
	next := *s.settings.Load()
	if next.Encryption, next.KeyID = "", ""; kms {
		next.Encryption, next.KeyID = encryptionKMS, c.In.Text("KeyId")
	}
	done := make(chan struct{})
	s.changing.Store(&done)
	defer func() {
		s.changing.Store(nil)
		close(done)
	}()
	history, err := changeEncryption(c.Ctx, s, kms)
	if err != nil {
		return err
	}
	attrs, ok := history.encode()
	if !ok {
		return awswire.Errorf(codeLimit, "Stream %s under account %s has changed its encryption too often while it keeps its records.", c.name, c.Scope.Account)
	}
	text, err := json.Marshal(&next)
	if err != nil {
		return err
	}
	attrs[attrSettings] = string(text)
	if err := s.st.SetAttributes(c.Ctx, attrs); err != nil {
		return err
	}
	s.settings.Store(&next)
	s.encryption.Store(history)
	s.begin(statusUpdating, c.svc.opts.UpdateTime, c.Clock())
	return nil
}

// nextCounter returns the counter of the record that is read first from a
// position.
func nextCounter(ctx context.Context, s *streamState, id string, from shardlog.Position) (uint64, error) {
	at, err := s.st.Resolve(ctx, id, from)
	if err != nil {
		return 0, err
	}
	counter := counterOf(at.Sequence())
	if at.Kind() == shardlog.KindAfter {
		counter++
	}
	return counter, nil
}
