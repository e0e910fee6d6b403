package logstore

import (
	"context"

	"github.com/shardlog/shardlog/internal/kv"
)

// Reclaim gives back disk space that nothing uses any more; more says that
// another call soon is useful. One call at a time.
func (l *Log) Reclaim() (more bool, err error) {
	dead := l.dead.Load()
	defer l.deadSeen.Store(dead)
	moved := false
	l.moves.during(func() bool {
		more, moved, err = l.store.Reclaim(l.live.Load(), l.dead.Load())
		return moved || err != nil
	})
	if err == nil && moved {
		err = l.sweep()
	}
	return more, err
}

// Usage returns the store's use of disk, and the stored bytes that are live, in blocks or
// in the journal.
func (l *Log) Usage() (u kv.Usage, live int64) {
	u = l.store.Usage()
	l.mu.Lock()
	defer l.mu.Unlock()
	return u, l.live.Load() + l.gathered
}

// sweep deletes again what was deleted before and came back: Badger's value
// log rewriting may store a block again after its tombstone has been compacted
// away. Such blocks are below the horizon, so no reader sees them, but they
// take space.
func (l *Log) sweep() error {
	l.mu.Lock()
	horizons := make(map[ID]uint64, len(l.shards))
	for id, s := range l.shards {
		horizons[id] = s.view().horizon
	}
	l.mu.Unlock()
	l.purgedMu.Lock()
	for id := range l.purged {
		horizons[id] = ^uint64(0)
	}
	l.purgedMu.Unlock()
	for id, h := range horizons {
		var stale [][]byte
		err := l.store.Scan(appendID(nil, prefixBlock, id), func(k []byte, _ int64) bool {
			_, e, ok := parseBlockKey(k)
			if ok && e.end() > h {
				return false
			}
			stale = append(stale, append([]byte(nil), k...))
			return len(stale) < trimChanges
		})
		if err == nil && len(stale) > 0 {
			err = l.deleteKeys(context.Background(), stale)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// deleteKeys removes keys that no view refers to.
func (l *Log) deleteKeys(ctx context.Context, keys [][]byte) error {
	for len(keys) > 0 {
		n := min(len(keys), trimChanges)
		step := keys[:n]
		keys = keys[n:]
		err := l.submit(ctx, &op{small: true, apply: func(tx *Tx) error {
			for _, k := range step {
				tx.Delete(k)
			}
			return nil
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

// maxPurged bounds how many dropped shards are swept again; the keys of those
// forgotten are deleted when the database is opened next.
const maxPurged = 4096
