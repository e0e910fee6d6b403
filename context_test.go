package shardlog

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestContextErrorMatchesTheEndAndItsCause(t *testing.T) {
	if err := ContextError(context.Background()); err != nil {
		t.Errorf("a context that goes on: %v", err)
	}
	cause := errors.New("a sibling failed")
	canceled, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	if err := ContextError(canceled); !errors.Is(err, context.Canceled) || !errors.Is(err, cause) {
		t.Errorf("%v matches Canceled: %v, the cause: %v; want both", err, errors.Is(err, context.Canceled), errors.Is(err, cause))
	}
	late, stop := context.WithDeadlineCause(context.Background(), time.Unix(1, 0), cause)
	defer stop()
	if err := ContextError(late); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, cause) {
		t.Errorf("%v matches DeadlineExceeded: %v, the cause: %v; want both", err, errors.Is(err, context.DeadlineExceeded), errors.Is(err, cause))
	}
	plain, cancel2 := context.WithCancel(context.Background())
	cancel2()
	if err := ContextError(plain); err != context.Canceled {
		t.Errorf("without a cause: %v, want context.Canceled alone", err)
	}
}
