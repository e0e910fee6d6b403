package producer

import (
	"fmt"
	"math/bits"
	"math/rand/v2"

	"github.com/shardlog/shardlog"
)

// stickyBytes is how many bytes of records without a key go to a shard before
// another one is chosen. The value is the default of franz-go's
// UniformBytesPartitioner: enough for large requests and aggregates, too little
// for an uneven load.
const stickyBytes = 64 << 10

// madeUpKeyLength is how long the partition keys of such records are.
const madeUpKeyLength = 16

// stickyPlace is where records without a key go for a while.
type stickyPlace struct {
	key     string
	hashKey shardlog.HashKey
	left    int         // bytes, until another place is chosen
	shard   *shardState // that holds hashKey; nil when that is not known
}

// assign gives an entry without a key this place, or, after stickyBytes or when
// the shards have changed, another one.
func (p *stickyPlace) assign(e *entry, m *shardMap) {
	if p.left <= 0 || m.open != nil && m.find(p.hashKey) != p.shard {
		p.choose(m)
	}
	p.left -= e.size
	e.key, e.hashKey = p.key, p.hashKey
}

// choose chooses a shard at random, other than the last one, and a random
// place on it: if the shard is split before the records get there, they are
// spread over the children.
func (p *stickyPlace) choose(m *shardMap) {
	next := stickyPlace{key: fmt.Sprintf("%016x", rand.Uint64()), left: stickyBytes}
	next.hashKey = shardlog.KeyHash(next.key)
	if n := len(m.open); n > 0 {
		i := rand.IntN(n)
		if m.open[i] == p.shard && n > 1 {
			i = (i + 1 + rand.IntN(n-1)) % n
		}
		next.shard = m.open[i]
		next.hashKey = between(next.shard.first, next.shard.last)
	}
	*p = next
}

// between returns a random hash key from first to last.
func between(first, last shardlog.HashKey) shardlog.HashKey {
	fh, fl := first.Words()
	lh, ll := last.Words()
	sl, c := bits.Sub64(ll, fl, 0)
	sh, _ := bits.Sub64(lh, fh, c)
	// Random bits, as many as the length of the range has, are drawn again while
	// the number that they make is too large.
	n := bits.Len64(sh)
	for {
		hi, lo := uint64(0), rand.Uint64()
		if n > 0 {
			hi = rand.Uint64() >> (64 - n)
		} else if m := bits.Len64(sl); m < 64 {
			lo &= 1<<m - 1
		}
		if hi > sh || hi == sh && lo > sl {
			continue
		}
		l, c := bits.Add64(fl, lo, 0)
		h, _ := bits.Add64(fh, hi, c)
		return shardlog.NewHashKey(h, l)
	}
}
