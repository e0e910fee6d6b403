package logstore

import (
	"context"

	"github.com/shardlog/shardlog/internal/kv"
)

// Open starts a log over a store with the shards that it is known to hold;
// what is stored of others is deleted. The log owns the store, unless Open
// fails.
func Open(store kv.Store, o Options, shards []Config, rec Recovery) (*Log, error) {
	l := newLog(store, o)
	r := &recovery{log: l, horizons: map[ID]uint64{}, loads: map[ID]*found{}, checked: map[string]error{}}
	for _, c := range shards {
		s := l.newShard(c)
		l.shards[c.ID] = s
		r.loads[c.ID] = &found{config: c}
	}
	if err := r.run(rec); err != nil {
		return nil, err
	}
	l.start()
	if len(r.garbage) > 0 {
		l.wg.Add(1)
		go func() {
			defer l.wg.Done()
			// Should it fail or the log close, the next Open finds the rest.
			if err := l.deleteKeys(context.Background(), r.garbage); err != nil {
				l.logWarn("deleting stale blocks failed", "error", err)
			}
		}()
	}
	return l, nil
}

// Shard returns the shard with the numbers, or nil.
func (l *Log) Shard(id ID) *Shard {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.shards[id]
}

// start launches the background work; recovery must be over.
func (l *Log) start() {
	l.wg.Add(1)
	c := &committer{log: l, w: txBuilder{log: l}}
	go c.run()
	if l.opts.SyncEvery > 0 {
		l.wg.Add(1)
		go l.syncLoop()
	}
}
