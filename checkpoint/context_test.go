package checkpoint_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/shardlog/shardlog/checkpoint"
)

func TestStoresReportTheEndOfAContextAndItsCause(t *testing.T) {
	file, err := checkpoint.OpenFile(filepath.Join(t.TempDir(), "rows"), nil)
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("a sibling failed")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	for name, store := range map[string]checkpoint.Store{"memory": checkpoint.NewMemory(), "file": file} {
		_, err := store.List(ctx, "g", "s")
		if !errors.Is(err, context.Canceled) || !errors.Is(err, cause) {
			t.Errorf("%s: List: %v matches context.Canceled: %v, its cause: %v; want both", name, err, errors.Is(err, context.Canceled), errors.Is(err, cause))
		}
	}
}
