package once

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/ctxsync"
	"github.com/shardlog/shardlog/internal/logstore"
)

// Bounds of what a stream keeps of producers.
const (
	// Expiry is how long an identity that nobody uses is kept.
	Expiry = 7 * 24 * time.Hour
	// MaxIdentities is how many identities a stream keeps. When there are more,
	// those idle for longest are forgotten, if that is minIdle at least.
	MaxIdentities = 10_000
	minIdle       = time.Hour
)

// Identities are the identities of a stream's producers. All methods are safe
// for concurrent use, except that Load must be the first. Use NewIdentities.
type Identities struct {
	stream *Stream
	epoch  atomic.Uint64 // the last one given out

	mu        sync.Mutex
	byID      map[string]*Identity
	nextCheck time.Time // when Expired looks again
}

// NewIdentities returns the identities of a stream that has none.
func NewIdentities(st *Stream) *Identities {
	return &Identities{stream: st, byID: map[string]*Identity{}}
}

// Keys returns all stored keys of producers, of one stream or, with nil, of all.
func Keys(log *logstore.Log, stream *uint32) (keys [][]byte, err error) {
	prefix := []byte{KeyPrefix}
	if stream != nil {
		prefix = binary.BigEndian.AppendUint32(prefix, *stream)
	}
	err = log.Scan(prefix, func(k []byte) bool {
		keys = append(keys, append([]byte(nil), k...))
		return true
	})
	return keys, err
}

// StreamOf returns the number of the stream that a key of Keys belongs to.
func StreamOf(key []byte) (stream uint32, ok bool) {
	if len(key) < 5 {
		return 0, false
	}
	return binary.BigEndian.Uint32(key[1:]), true
}

// Load reads which identities there are, but not their numbers, from the keys of
// the stream. It returns the keys that mean nothing any more. Damage of one
// identity is reported to Stream.Warn and by the calls that use it.
func (is *Identities) Load(keys [][]byte) (stale [][]byte, err error) {
	is.mu.Lock()
	defer is.mu.Unlock()
	for _, k := range keys {
		if err := is.loadKey(k); err != nil {
			return nil, err
		}
	}
	for id, p := range is.byID {
		if p.state.epoch > 0 || p.state.damaged != nil {
			continue
		}
		// Slots without a base: deleted ones that reappeared.
		for slot := uint8(1); slot <= p.state.topSlot; slot++ {
			stale = append(stale, IdentityKey(is.stream.ID, id, slot))
		}
		delete(is.byID, id)
	}
	return stale, nil
}

// loadKey reads the head of one value, with is locked.
func (is *Identities) loadKey(k []byte) error {
	id, slot, ok := parseIdentityKey(k)
	if ok && slot > 0 {
		p := is.add(id)
		p.state.topSlot = max(p.state.topSlot, slot)
		return nil
	}
	v, err := is.stream.Log.Get(k)
	if !ok {
		if err != nil {
			return err
		}
		if len(v) != 8 {
			return fmt.Errorf("%w: the last epoch of stream %q has %d bytes", shardlog.ErrCorrupt, is.stream.Name, len(v))
		}
		is.epoch.Store(max(is.epoch.Load(), binary.LittleEndian.Uint64(v)))
		return nil
	}
	var s storedState
	if err == nil {
		s, err = decodeState(v, true)
	}
	if err != nil {
		err = fmt.Errorf("producer %q of stream %q: %w", id, is.stream.Name, err)
	}
	if err != nil && !errors.Is(err, shardlog.ErrCorrupt) {
		return err
	}
	p := is.add(id)
	if err != nil {
		is.stream.Warn("a producer has to be opened again", err)
		p.state.damaged = err
		return nil
	}
	p.state.epoch, p.state.written.gen = s.epoch, s.gen
	p.assigned.Store(s.epoch)
	p.used.Store(s.used)
	is.epoch.Store(max(is.epoch.Load(), s.epoch))
	return nil
}

// add returns the identity, and creates it if there is none; is is locked.
func (is *Identities) add(id string) *Identity {
	p := is.byID[id]
	if p == nil {
		p = &Identity{owner: is, id: id, loading: ctxsync.NewMutex()}
		p.used.Store(time.Now().UnixMilli())
		is.byID[id] = p
	}
	return p
}

// Find returns the identity, or nil if the stream has none of the name.
func (is *Identities) Find(id string) *Identity {
	is.mu.Lock()
	defer is.mu.Unlock()
	return is.byID[id]
}

// Len returns how many identities there are.
func (is *Identities) Len() int {
	is.mu.Lock()
	defer is.mu.Unlock()
	return len(is.byID)
}

func (is *Identities) remove(p *Identity) {
	is.mu.Lock()
	defer is.mu.Unlock()
	if is.byID[p.id] == p {
		delete(is.byID, p.id)
	}
}

// withoutLost leaves out numbers whose records were lost in a power failure, so
// that they are stored when they are sent again.
func (is *Identities) withoutLost(list []numbered) []numbered {
	kept := list[:0]
	for i := range list {
		if !is.stream.Lost(list[i].seq) {
			kept = append(kept, list[i])
		}
	}
	return kept
}

// maxFirstEpoch leaves epochs exact in a float64, for those who log them.
const maxFirstEpoch = 1 << 52

// Open gives the identity its next epoch and blocks until that is stored; or it
// stores nothing and returns what to wait for before it is called again. If ctx
// ends while the epoch is being stored the error matches
// shardlog.ErrUnknownOutcome. The caller keeps the stream from being deleted
// meanwhile.
func (is *Identities) Open(ctx context.Context, id string) (epoch uint64, wait <-chan struct{}, err error) {
	is.mu.Lock()
	if is.byID[id] == nil && len(is.byID) >= MaxIdentities {
		idle, err := is.idlest()
		is.mu.Unlock()
		if err == nil {
			wait, err = is.Forget(ctx, idle)
		}
		if wait == nil {
			wait = ready
		}
		return 0, wait, err
	}
	p := is.add(id)
	is.mu.Unlock()
	if wait := p.beginChange(); wait != nil {
		return 0, wait, nil
	}
	// The first epoch of a stream is anywhere, so that a request for an earlier
	// stream of its name is not taken for one of this stream's producers, and
	// what it carries not for a copy.
	is.epoch.CompareAndSwap(0, rand.Uint64N(maxFirstEpoch))
	epoch = is.epoch.Add(1)
	return epoch, nil, p.change(ctx, &identityUpdate{kind: openEpoch, epoch: epoch})
}

// idlest returns the identity to be forgotten for a new one, with is locked.
func (is *Identities) idlest() (*Identity, error) {
	var idle *Identity
	now := time.Now()
	for _, p := range is.byID {
		p.unused(now) // corrects its time
		if idle == nil || p.used.Load() < idle.used.Load() {
			idle = p
		}
	}
	if idle.unused(time.Now()) < minIdle {
		return nil, &shardlog.InvalidError{Field: "Producer", Value: "one more", Limit: fmt.Sprintf("one of at most %d identities used within %v", MaxIdentities, minIdle)}
	}
	return idle, nil
}

// Forget removes an identity that nothing is being stored for; otherwise it
// returns what to wait for, if anything. The caller keeps the stream from being
// deleted meanwhile.
func (is *Identities) Forget(ctx context.Context, p *Identity) (wait <-chan struct{}, err error) {
	p.mu.Lock()
	s := &p.state
	if s.changing != nil || s.gone || len(s.pending) > 0 {
		wait = s.changing
		p.used.Store(time.Now().UnixMilli()) // it is used after all
		p.mu.Unlock()
		return wait, nil
	}
	s.changing = make(chan struct{})
	p.mu.Unlock()
	return nil, p.change(ctx, &identityUpdate{kind: forgetIdentity})
}

// unused returns how long the identity has not been used. A last use that is in
// the future was noted while the clock was ahead, and counts as one of now: or the
// identity would stay until the clock is there again.
func (p *Identity) unused(now time.Time) time.Duration {
	used, ms := p.used.Load(), now.UnixMilli()
	if used > ms && p.used.CompareAndSwap(used, ms) {
		used = ms
	}
	return max(0, now.Sub(time.UnixMilli(used)))
}

// Expired unloads identities that are idle, and returns those that were not used
// for Expiry, which the caller is to Forget, and how long there will be no others.
func (is *Identities) Expired() (over []*Identity, next time.Duration) {
	now := time.Now()
	var idle []*Identity
	is.mu.Lock()
	next = is.nextCheck.Sub(now)
	if len(is.byID) == 0 {
		next = time.Hour
	}
	if next > 0 {
		is.mu.Unlock()
		return nil, next
	}
	next = time.Hour
	for _, p := range is.byID {
		switch unused := p.unused(now); {
		case unused >= Expiry:
			over = append(over, p)
		case unused >= loadedFor:
			idle = append(idle, p)
			next = min(next, max(Expiry-unused, time.Minute))
		default:
			next = min(next, loadedFor)
		}
	}
	is.nextCheck = now.Add(next)
	is.mu.Unlock()
	for _, p := range idle {
		p.unload()
	}
	return over, next
}
