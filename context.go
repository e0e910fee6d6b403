package shardlog

import (
	"context"
	"errors"
	"fmt"
)

// ContextError returns why ctx ended, or nil while it has not. The error
// matches context.Canceled or context.DeadlineExceeded, and the cause as well
// where the context has one (see context.Cause), so that a program can tell an
// ordinary shutdown from a failure and still learn what led to it. All packages
// of this module report the end of a context with it; sinks, sources and
// checkpoint stores of other packages are encouraged to. It does not block.
func ContextError(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if err == nil || errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}
