package lease

import (
	"cmp"
	"slices"
	"strings"
)

// member is a worker that is alive, as planning sees it.
type member struct {
	id string
	// most is how many shards it takes; 0 is no limit.
	most int
	// leaving: it is shutting down, and takes nothing any more.
	leaving bool
}

// holding is a shard that is ready to be worked on. Owner and next are "" or
// workers that are alive.
type holding struct {
	shard, owner, next string
}

// assignment is what a plan says should be so.
type assignment struct {
	// take has the worker for each shard that nobody holds. Shards for which
	// nobody has room are not in it.
	take map[string]string
	// move has the worker that should ask for each shard that another holds.
	move map[string]string
}

// plan divides the shards among the workers: as evenly as their limits allow,
// and with as few moves as that needs. It depends on nothing but its arguments,
// so workers that see the same come to the same plan, and each one does only
// its own part of it: none of them runs for the same shard as another.
func plan(members []member, shards []holding) assignment {
	a := assignment{take: map[string]string{}, move: map[string]string{}}
	load := map[string]int{}
	leaving := map[string]bool{}
	for _, m := range members {
		leaving[m.id] = m.leaving
	}
	shards = slices.Clone(shards)
	slices.SortFunc(shards, func(x, y holding) int { return strings.Compare(x.shard, y.shard) })
	for _, s := range shards {
		load[s.heir()]++
	}
	goal := goals(members, shards, load)
	give := func(to map[string]string, shard string) bool {
		best := ""
		for _, m := range members {
			room := goal[m.id] - load[m.id]
			if room <= 0 {
				continue
			}
			if other := goal[best] - load[best]; best == "" || room > other || room == other && m.id < best {
				best = m.id
			}
		}
		if best == "" {
			return false
		}
		to[shard] = best
		load[best]++
		return true
	}
	for _, s := range shards {
		switch {
		case s.owner == "" && s.next != "" && !leaving[s.next]:
			a.take[s.shard] = s.next
		case s.owner == "":
			give(a.take, s.shard)
		}
	}
	// The last shards of a worker that has too many are those that move, and
	// no shard moves that is on its way already.
	for _, s := range slices.Backward(shards) {
		if s.owner != "" && s.next == "" && !leaving[s.owner] && load[s.owner] > goal[s.owner] && give(a.move, s.shard) {
			load[s.owner]--
		}
	}
	return a
}

// heir is the worker that has the shard, or will have it.
func (h *holding) heir() string {
	if h.next != "" {
		return h.next
	}
	return h.owner
}

// goals says how many shards each worker should have. Where the number cannot
// be the same for all, those that have more now keep one more. What a leaving
// worker still has is for the others.
func goals(members []member, shards []holding, load map[string]int) map[string]int {
	stay := slices.DeleteFunc(slices.Clone(members), func(m member) bool { return m.leaving })
	// The smallest limits come first: what those workers cannot take is left
	// to the others.
	limit := func(m member) int {
		if m.most <= 0 {
			return len(shards) + 1
		}
		return m.most
	}
	slices.SortFunc(stay, func(x, y member) int {
		return cmp.Or(cmp.Compare(limit(x), limit(y)), cmp.Compare(load[y.id], load[x.id]), strings.Compare(x.id, y.id))
	})
	goal := map[string]int{}
	left := len(shards)
	for len(stay) > 0 && limit(stay[0]) <= left/len(stay) {
		goal[stay[0].id] = limit(stay[0])
		left -= limit(stay[0])
		stay = stay[1:]
	}
	if len(stay) == 0 {
		return goal
	}
	each, more := left/len(stay), left%len(stay)
	slices.SortFunc(stay, func(x, y member) int {
		return cmp.Or(cmp.Compare(load[y.id], load[x.id]), strings.Compare(x.id, y.id))
	})
	for i, m := range stay {
		goal[m.id] = each
		if i < more {
			goal[m.id]++
		}
	}
	return goal
}
