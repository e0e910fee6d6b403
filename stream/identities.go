package stream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/shardlog/shardlog"
)

// Bounds of what a stream keeps of producers.
const (
	// ProducerExpiry is how long an identity that nobody uses is kept. Requests
	// of a producer that was idle for longer get shardlog.ErrNotFound; it may
	// open its identity again. Kafka forgets its producers after as long
	// (transactional.id.expiration.ms).
	ProducerExpiry = 7 * 24 * time.Hour
	// MaxProducers is how many identities a stream keeps. When there are more,
	// those idle for longest are forgotten, if that is an hour at least.
	MaxProducers = 10_000
	// MaxProducerID is the longest identity, in bytes.
	MaxProducerID = 256
	// minIdle is what makes an identity one that may be forgotten for another.
	minIdle = time.Hour
)

// producers are the identities of a stream.
type producers struct {
	epoch atomic.Uint64 // the last one given out

	mu        sync.Mutex
	byID      map[string]*identity
	nextCheck time.Time // when the janitor looks again
}

const prefixIdentity = 'i'

// epochKey is where the last epoch of a stream is.
func epochKey(stream uint32) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{prefixIdentity}, stream), 'e')
}

// identityKey is where a producer's state is: its base in slot 0, and what
// came after it in the others.
func identityKey(stream uint32, id string, slot uint8) []byte {
	k := make([]byte, 0, 7+len(id))
	k = binary.BigEndian.AppendUint32(append(k, prefixIdentity), stream)
	return append(append(k, 'p', slot), id...)
}

// parseIdentityKey is the reverse; the key is one of the stream given.
func parseIdentityKey(k []byte) (id string, slot uint8, ok bool) {
	if len(k) < 8 || k[5] != 'p' {
		return "", 0, false
	}
	return string(k[7:]), k[6], true
}

// identityKeys returns all keys of producers, of one stream or, with nil, of
// all.
func (db *DB) identityKeys(stream *uint32) (keys [][]byte, err error) {
	prefix := []byte{prefixIdentity}
	if stream != nil {
		prefix = binary.BigEndian.AppendUint32(prefix, *stream)
	}
	err = db.log.Scan(prefix, func(k []byte) bool {
		keys = append(keys, append([]byte(nil), k...))
		return true
	})
	return keys, err
}

// loadProducers reads which identities there are, but not their numbers, and
// returns the keys of streams that are not there any more.
func (db *DB) loadProducers(byID map[uint32]*Stream) (stale [][]byte, err error) {
	keys, err := db.identityKeys(nil)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		var st *Stream
		if len(k) >= 5 {
			st = byID[binary.BigEndian.Uint32(k[1:])]
		}
		if st == nil {
			stale = append(stale, k)
			continue
		}
		if err := st.loadProducer(k); err != nil {
			return nil, err
		}
	}
	for _, st := range byID {
		for id, p := range st.producers.byID {
			if p.epoch > 0 || p.damaged != nil {
				continue
			}
			// Slots without a base: deleted ones that came back.
			for slot := uint8(1); slot <= p.topSlot; slot++ {
				stale = append(stale, identityKey(st.id, id, slot))
			}
			delete(st.producers.byID, id)
		}
	}
	return stale, nil
}

func (st *Stream) loadProducer(k []byte) error {
	ps := &st.producers
	id, slot, ok := parseIdentityKey(k)
	if ok && slot > 0 {
		p := ps.add(st, id)
		p.topSlot = max(p.topSlot, slot)
		return nil
	}
	v, err := st.db.log.Get(k)
	if !ok {
		if err != nil {
			return err
		}
		if len(v) != 8 {
			return fmt.Errorf("%w: the last epoch of stream %q has %d bytes", shardlog.ErrCorrupt, st.name, len(v))
		}
		ps.epoch.Store(max(ps.epoch.Load(), binary.LittleEndian.Uint64(v)))
		return nil
	}
	var s identityState
	if err == nil {
		s, err = decodeIdentity(v, true)
	}
	if err != nil {
		err = fmt.Errorf("producer %q of stream %q: %w", id, st.name, err)
	}
	if err != nil && !errors.Is(err, shardlog.ErrCorrupt) {
		return err
	}
	p := ps.add(st, id)
	if err != nil {
		st.db.warn("a producer has to be opened anew", err)
		p.damaged = err
		return nil
	}
	p.epoch = s.epoch
	p.assigned.Store(s.epoch)
	p.used.Store(s.used)
	p.written.gen = s.gen
	ps.epoch.Store(max(ps.epoch.Load(), s.epoch))
	return nil
}

// add returns the identity, and makes it if there is none.
func (ps *producers) add(st *Stream, id string) *identity {
	p := ps.byID[id]
	if p == nil {
		if ps.byID == nil {
			ps.byID = map[string]*identity{}
		}
		p = &identity{st: st, id: id}
		p.used.Store(time.Now().UnixMilli())
		ps.byID[id] = p
	}
	return p
}

func (ps *producers) find(id string) *identity {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.byID[id]
}

func (ps *producers) count() int {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return len(ps.byID)
}

func (ps *producers) remove(p *identity) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.byID[p.id] == p {
		delete(ps.byID, p.id)
	}
}

// withoutLost leaves out numbers whose records were lost with the power, so
// that they are stored when they are sent again.
func (st *Stream) withoutLost(list []numbered) []numbered {
	r := st.routes.Load()
	kept := list[:0]
	for i := range list {
		m := r.find(shardlog.ShardID(shardOf(list[i].seq)))
		if m == nil || !m.s.Lost(counterOf(list[i].seq)) {
			kept = append(kept, list[i])
		}
	}
	return kept
}

func checkProducerID(id string) error {
	if id == "" || len(id) > MaxProducerID || !utf8.ValidString(id) {
		return &shardlog.InvalidError{Field: "Producer", Value: id, Limit: fmt.Sprintf("1 to %d bytes of valid UTF-8", MaxProducerID)}
	}
	return nil
}

// OpenProducer implements shardlog.RequestSink. It blocks until the new epoch
// is on disk, whatever the Durability. Epochs are given out by the stream and none is
// ever used again, not even for an identity that was forgotten; see
// ProducerExpiry and MaxProducers.
//
// Errors match shardlog.ErrInvalid, ErrNotFound if the stream was deleted,
// ErrNoSpace, ErrClosed, or shardlog.ErrUnknownOutcome if ctx ends or the
// storage fails while the epoch is being stored: the identity may have been
// taken over then, or may be taken over later.
func (st *Stream) OpenProducer(ctx context.Context, id string) (epoch uint64, err error) {
	if err := st.enter(ctx, "open producer"); err != nil {
		return 0, err
	}
	if err := checkProducerID(id); err != nil {
		return 0, st.fail("open producer", "", err)
	}
	for {
		var wait <-chan struct{}
		epoch, wait, err = st.openProducer(ctx, id)
		if err != nil {
			return 0, st.fail("open producer", "", err)
		}
		if wait == nil {
			// An epoch that goes with the power would be given out twice.
			if err := st.db.syncNow(); err != nil {
				return 0, st.fail("open producer", "", errors.Join(shardlog.ErrUnknownOutcome, err))
			}
			return epoch, nil
		}
		if err := st.await(ctx, wait); err != nil {
			return 0, st.fail("open producer", "", err)
		}
	}
}

// openProducer is one attempt; it returns what to wait for before the next.
func (st *Stream) openProducer(ctx context.Context, id string) (epoch uint64, wait <-chan struct{}, err error) {
	if err := st.shape.RLock(ctx); err != nil {
		return 0, nil, err
	}
	defer st.shape.RUnlock()
	if st.deleted.Load() {
		return 0, nil, shardlog.ErrNotFound
	}
	ps := &st.producers
	ps.mu.Lock()
	if ps.byID[id] == nil && len(ps.byID) >= MaxProducers {
		idle, err := ps.idlest()
		ps.mu.Unlock()
		if err == nil {
			wait, err = st.forgetProducer(ctx, idle)
		}
		if wait == nil {
			wait = closedChan
		}
		return 0, wait, err
	}
	p := ps.add(st, id)
	ps.mu.Unlock()
	p.mu.Lock()
	if p.gone || p.opening != nil {
		wait := p.opening
		p.mu.Unlock()
		if wait == nil {
			return 0, closedChan, nil
		}
		return 0, wait, nil
	}
	p.opening = make(chan struct{})
	p.mu.Unlock()
	epoch = ps.epoch.Add(1)
	return epoch, nil, p.change(ctx, &ticket{kind: ticketOpen, epoch: epoch})
}

// closedChan is for who need not wait.
var closedChan = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// await waits for others, holding nothing.
func (st *Stream) await(ctx context.Context, c <-chan struct{}) error {
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-st.db.quit:
		return shardlog.ErrClosed
	}
}

// idlest returns the identity to be forgotten for a new one, with ps.mu held.
func (ps *producers) idlest() (*identity, error) {
	var idle *identity
	for _, p := range ps.byID {
		if idle == nil || p.used.Load() < idle.used.Load() {
			idle = p
		}
	}
	if time.Since(time.UnixMilli(idle.used.Load())) < minIdle {
		return nil, &shardlog.InvalidError{Field: "Producer", Value: "one more", Limit: fmt.Sprintf("one of at most %d identities used within %v", MaxProducers, minIdle)}
	}
	return idle, nil
}

// forgetProducer removes an identity that nothing is under way for; otherwise
// it returns what to wait for, if anything.
func (st *Stream) forgetProducer(ctx context.Context, p *identity) (wait <-chan struct{}, err error) {
	p.mu.Lock()
	if p.opening != nil || p.gone || len(p.pending) > 0 {
		wait = p.opening
		p.used.Store(time.Now().UnixMilli()) // it is used after all
		p.mu.Unlock()
		return wait, nil
	}
	p.opening = make(chan struct{})
	p.mu.Unlock()
	return nil, p.change(ctx, &ticket{kind: ticketForget})
}

// expireProducers forgets identities that were not used for long; it returns
// how long none will be.
func (st *Stream) expireProducers(ctx context.Context) (time.Duration, error) {
	ps := &st.producers
	now := time.Now()
	ps.mu.Lock()
	wait := ps.nextCheck.Sub(now)
	if len(ps.byID) == 0 {
		wait = time.Hour
	}
	if wait > 0 {
		ps.mu.Unlock()
		return wait, nil
	}
	wait = time.Hour
	var idle, over []*identity
	for _, p := range ps.byID {
		switch unused := now.Sub(time.UnixMilli(p.used.Load())); {
		case unused >= ProducerExpiry:
			over = append(over, p)
		case unused >= loadedFor:
			idle = append(idle, p)
			wait = min(wait, max(ProducerExpiry-unused, time.Minute))
		default:
			wait = min(wait, loadedFor)
		}
	}
	ps.nextCheck = now.Add(wait)
	ps.mu.Unlock()
	for _, p := range idle {
		p.unload()
	}
	for _, p := range over {
		if err := st.expireProducer(ctx, p); err != nil {
			return 0, err
		}
	}
	return wait, nil
}

func (st *Stream) expireProducer(ctx context.Context, p *identity) error {
	if err := st.shape.RLock(ctx); err != nil {
		return err
	}
	defer st.shape.RUnlock()
	if st.deleted.Load() {
		return shardlog.ErrNotFound
	}
	_, err := st.forgetProducer(ctx, p)
	return err
}

// dropProducers removes what is stored of a deleted stream's producers.
func (st *Stream) dropProducers(ctx context.Context) error {
	keys, err := st.db.identityKeys(&st.id)
	return errors.Join(err, st.db.deleteKeys(ctx, keys))
}
