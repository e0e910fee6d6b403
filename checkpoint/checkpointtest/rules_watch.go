package checkpointtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shardlog/shardlog/checkpoint"
)

// watchNotifies applies to stores that are a checkpoint.Watcher.
func watchNotifies(ctx context.Context, s checkpoint.Store) error {
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
