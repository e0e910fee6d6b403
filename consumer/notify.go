package consumer

import (
	"context"
	"errors"
	"log/slog"
)

// notifier passes events to Options.OnEvent and to the log.
type notifier struct {
	onEvent               func(Event)
	logger                *slog.Logger
	stream, group, worker string
}

func newNotifier(o *Options) *notifier {
	return &notifier{onEvent: o.OnEvent, logger: o.Logger, stream: o.Stream, group: o.Group, worker: o.WorkerID}
}

// emit is called with no lock held: callbacks may call the Consumer.
func (n *notifier) emit(e Event) {
	level := slog.LevelDebug
	switch e.Kind {
	case EventShardStarted, EventShardEnded, EventShardReleased, EventLeaseTaken, EventLeaseAsked:
		level = slog.LevelInfo
	case EventShardGone, EventTrimmed, EventHandlerFailed, EventReadFailed, EventStoreFailed, EventDiscoverFailed,
		EventLeaseLost, EventRowMissing, EventDeadLetter, EventDeadLetterFailed, EventDeadLetterRefused, EventBisected, EventAggregateDamaged:
		level = slog.LevelWarn
	case EventFailed, EventFenced, EventShardParked:
		level = slog.LevelError
	}
	if ctx := context.Background(); n.logger.Enabled(ctx, level) {
		attrs := []slog.Attr{slog.String("stream", n.stream), slog.String("group", n.group), slog.String("worker", n.worker)}
		if e.ShardID != "" {
			attrs = append(attrs, slog.String("shard", e.ShardID), slog.Uint64("epoch", e.Epoch), slog.String("position", e.Position.String()))
		}
		if e.Attempt > 0 {
			attrs = append(attrs, slog.Int("attempt", e.Attempt), slog.Duration("wait", e.Wait))
		}
		if e.Err != nil {
			attrs = append(attrs, slog.Any("error", e.Err))
		}
		if p := (*PanicError)(nil); errors.As(e.Err, &p) {
			attrs = append(attrs, slog.String("stack", string(p.Stack)))
		}
		n.logger.LogAttrs(ctx, level, "consumer: "+string(e.Kind), attrs...)
	}
	if n.onEvent != nil {
		n.onEvent(e)
	}
}
