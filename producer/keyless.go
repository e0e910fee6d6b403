package producer

import (
	"fmt"
	"math/bits"
	"math/rand/v2"

	"github.com/shardlog/shardlog"
)

// spreadRun is how many bytes of records without a key go to a shard before
// another one is chosen (the size of franz-go's UniformBytesPartitioner by
// default): enough for large requests and aggregates, too little for an uneven
// load.
const stickyBytes = 64 << 10

// runKeyLength is how long the partition keys of such records are.
const madeUpKeyLength = 16

// stickyPlace is the place to which records without a key go for a while.
type stickyPlace struct {
	key     string
	hashKey shardlog.HashKey
	left    int
	shard   *shardState
}

// placeKeyless gives a record without a key the place of the run.
func (p *Producer) placeKeyless(e *entry) {
	r := &p.sticky
	if r.left <= 0 || p.shards.open != nil && p.shards.find(r.hashKey) != r.shard {
		p.chooseSticky()
	}
	r.left -= e.size
	e.key, e.hashKey = r.key, r.hashKey
}

// chooseSticky chooses a shard by chance, but not the same again, and a place on it:
// the shard may have been split when the record gets there.
func (p *Producer) chooseSticky() {
	r := stickyPlace{key: fmt.Sprintf("%016x", rand.Uint64()), left: stickyBytes}
	r.hashKey = shardlog.KeyHash(r.key)
	if n := len(p.shards.open); n > 0 {
		i := rand.IntN(n)
		if p.shards.open[i] == p.sticky.shard && n > 1 {
			i = (i + 1 + rand.IntN(n-1)) % n
		}
		r.shard = p.shards.open[i]
		r.hashKey = between(r.shard.first, r.shard.last)
	}
	p.sticky = r
}

// between returns a hash key from first to last.
func between(first, last shardlog.HashKey) shardlog.HashKey {
	fh, fl := first.Words()
	lh, ll := last.Words()
	sl, c := bits.Sub64(ll, fl, 0)
	sh, _ := bits.Sub64(lh, fh, c)
	// A number below 2^128 is scaled down to the range by cutting its top bits
	// off, and thrown again when it is still too large.
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
