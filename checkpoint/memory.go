package checkpoint

import (
	"context"
	"slices"
	"sync"

	"github.com/shardlog/shardlog"
)

// Memory is a Store in this process: its rows end with it. It is for tests,
// and for consumers that start from the beginning each time. Make one with
// NewMemory.
type Memory struct {
	mu   sync.Mutex
	rows map[Key]Lease
	// version is the last one given. One counter for all rows costs nothing
	// and cannot repeat a version after a row was deleted and created again.
	version uint64

	watchers Watchers
}

var _ Watcher = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory() *Memory { return &Memory{rows: map[Key]Lease{}} }

// Create implements Store.
func (m *Memory) Create(ctx context.Context, l Lease) (Lease, error) {
	if err := firstError(ctx, l.Validate); err != nil {
		return Lease{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.rows[l.Key]; ok {
		return Lease{}, rowError("create", l.Key, shardlog.ErrExists)
	}
	return m.put(l), nil
}

// Get implements Store.
func (m *Memory) Get(ctx context.Context, k Key) (Lease, error) {
	if err := firstError(ctx, k.Validate); err != nil {
		return Lease{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	l, ok := m.rows[k]
	if !ok {
		return Lease{}, rowError("get", k, shardlog.ErrNotFound)
	}
	return l.Clone(), nil
}

// List implements Store.
func (m *Memory) List(ctx context.Context, group, stream string) ([]Lease, error) {
	if err := shardlog.ContextError(ctx); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Lease
	for k, l := range m.rows {
		if k.Group == group && (stream == "" || k.Stream == stream) {
			out = append(out, l.Clone())
		}
	}
	slices.SortFunc(out, func(a, b Lease) int { return a.Key.Compare(b.Key) })
	return out, nil
}

// Update implements Store.
func (m *Memory) Update(ctx context.Context, l Lease) (Lease, error) {
	if err := firstError(ctx, l.Validate); err != nil {
		return Lease{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.match("update", l); err != nil {
		return Lease{}, err
	}
	return m.put(l), nil
}

// Delete implements Store.
func (m *Memory) Delete(ctx context.Context, l Lease) error {
	if err := firstError(ctx, l.Key.Validate); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.match("delete", l); err != nil {
		return err
	}
	old := m.rows[l.Key]
	delete(m.rows, l.Key)
	m.watchers.Changed(&old, nil)
	return nil
}

// put stores a copy of l with a new version. The caller holds mu.
func (m *Memory) put(l Lease) Lease {
	m.version++
	l = l.Clone()
	l.Version = m.version
	var before *Lease
	if old, ok := m.rows[l.Key]; ok {
		before = &old
	}
	m.rows[l.Key] = l
	m.watchers.Changed(before, &l)
	return l.Clone()
}

// match checks that there is a row with l's version. The caller holds mu.
func (m *Memory) match(op string, l Lease) error {
	switch cur, ok := m.rows[l.Key]; {
	case !ok:
		return rowError(op, l.Key, shardlog.ErrNotFound)
	case cur.Version != l.Version:
		return rowError(op, l.Key, versionConflict(l.Version, cur.Version))
	}
	return nil
}

func firstError(ctx context.Context, validate func() error) error {
	if err := shardlog.ContextError(ctx); err != nil {
		return err
	}
	return validate()
}

func rowError(op string, k Key, err error) error {
	return &shardlog.Error{Op: "checkpoint " + op, Stream: k.Stream, Shard: k.Shard, Err: err}
}

// Watch implements Watcher.
func (m *Memory) Watch(ctx context.Context, group, stream string) <-chan struct{} {
	return m.watchers.Watch(ctx, group, stream)
}
