package producer

import (
	"context"
	"log/slog"
	"runtime/debug"

	"github.com/shardlog/shardlog"
)

// learnShards asks the sink for its shards, unless the answer is newer than
// version or the sink failed just before. It blocks, and is called without mu.
func (p *Producer) learnShards(version uint64) {
	select {
	case p.learning <- struct{}{}:
	case <-p.ctx.Done():
		return
	}
	defer func() { <-p.learning }()
	m := &p.core.shards // guarded by mu
	p.mu.Lock()
	skip := m.version > version || p.now() < m.retryAt || p.core.life == stateClosed
	p.unlock()
	if skip {
		return
	}
	ctx, cancel := context.WithTimeoutCause(p.ctx, mapTimeout, errTimeout)
	infos, err := p.listShards(ctx)
	cancel()
	p.mu.Lock()
	if err == nil {
		err = p.core.onShards(infos)
	}
	if err != nil {
		m.onFailure(p.now())
	}
	open := len(m.open)
	p.unlock()
	if err != nil && p.ctx.Err() == nil {
		p.log(func(l *slog.Logger) {
			l.Warn("the sink's shards are not known", slog.Any("error", err), slog.Int("shards", open))
		})
	}
	if f := p.conf.OnShards; f != nil {
		p.callHook(func() { f(open, err) })
	}
}

// listShards calls the sink in a goroutine of its own, which it may end.
func (p *Producer) listShards(ctx context.Context) ([]shardlog.ShardInfo, error) {
	type answer struct {
		infos []shardlog.ShardInfo
		err   error
	}
	c := make(chan answer, 1)
	go func() {
		a := answer{err: errExited}
		defer func() {
			if v := recover(); v != nil {
				a.err = &PanicError{Value: v, Stack: debug.Stack()}
			}
			c <- a
		}()
		a.infos, a.err = p.sink.Shards(ctx)
	}()
	a := <-c
	return a.infos, a.err
}

// ensureShardsLocked asks for the shards if they have to be known and are not. The
// caller holds mu, which is released meanwhile.
func (p *Producer) ensureShardsLocked() {
	m := &p.core.shards
	if !p.conf.needsShards || m.open != nil || p.now() < m.retryAt {
		return
	}
	version := m.version
	p.unlock()
	p.learnShards(version)
	p.mu.Lock()
}
