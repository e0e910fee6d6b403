package lease

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPlanProperties carries plans out on random groups and looks at the
// result: even, within limits, with no more moves than that needs, and stable.
func TestPlanProperties(t *testing.T) {
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		var members []member
		for i := range 1 + rnd.IntN(6) {
			m := member{id: fmt.Sprintf("w%d", i), leaving: rnd.IntN(8) == 0}
			if rnd.IntN(3) == 0 {
				m.most = 1 + rnd.IntN(6)
			}
			members = append(members, m)
		}
		var shards []holding
		for i := range rnd.IntN(25) {
			h := holding{shard: fmt.Sprintf("s%02d", i)}
			if rnd.IntN(3) > 0 {
				h.owner = members[rnd.IntN(len(members))].id
			}
			shards = append(shards, h)
		}
		before := slices.Clone(shards)
		a := plan(members, shards)
		require.Equal(t, before, shards, "plan changes nothing")
		rnd.Shuffle(len(shards), func(i, j int) { shards[i], shards[j] = shards[j], shards[i] })
		rnd.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
		require.Equal(t, a, plan(members, shards), "seed %d: the order does not matter", seed)

		// A move that was asked for is not asked for again.
		asked := slices.Clone(before)
		for i := range asked {
			asked[i].next = a.move[asked[i].shard]
			if to := a.take[asked[i].shard]; to != "" {
				asked[i].owner = to
			}
		}
		again := plan(members, asked)
		require.Empty(t, again.move, "seed %d", seed)

		after := slices.Clone(asked)
		load := map[string]int{}
		unassigned := 0
		for i := range after {
			if after[i].next != "" {
				after[i].owner, after[i].next = after[i].next, ""
			}
			if after[i].owner == "" {
				unassigned++
			}
			load[after[i].owner]++
		}
		require.Equal(t, assignment{take: map[string]string{}, move: map[string]string{}}, plan(members, after), "seed %d: it is stable", seed)

		least, most, room := 1000, 0, 0
		for _, m := range members {
			if m.leaving {
				for _, to := range a.move {
					require.NotEqual(t, m.id, to)
				}
				continue
			}
			if m.most == 0 || load[m.id] < m.most {
				room++
				least = min(least, load[m.id])
			}
			most = max(most, load[m.id])
		}
		for _, m := range members {
			// A worker may have been left with more than it wants.
			if m.most > 0 && room > 0 && !m.leaving {
				require.LessOrEqual(t, load[m.id], m.most, "seed %d: %s", seed, m.id)
			}
		}
		if room > 0 {
			// What a leaving worker holds will come to those who have room.
			leavingHas := 0
			for _, m := range members {
				if m.leaving {
					leavingHas += load[m.id]
				}
			}
			require.Zero(t, unassigned, "seed %d: nothing is left lying about", seed)
			if leavingHas == 0 {
				require.LessOrEqual(t, most, least+1, "seed %d: %v", seed, load)
			}
		}
	}
}

func TestPlanMovesNoMoreThanNeeded(t *testing.T) {
	members := []member{{id: "a"}, {id: "b"}, {id: "c"}}
	var shards []holding
	for i := range 6 {
		shards = append(shards, holding{shard: fmt.Sprint(i), owner: members[i%2].id})
	}
	a := plan(members, shards)
	assert.Empty(t, a.take)
	assert.Equal(t, map[string]string{"4": "c", "5": "c"}, a.move)
	shards[4].next, shards[5].next = "c", "c"
	assert.Empty(t, plan(members, shards).move)

	// A difference of one moves nothing.
	shards = []holding{{shard: "0", owner: "c"}, {shard: "1", owner: "c"}, {shard: "2", owner: "b"}, {shard: "3", owner: "a"}}
	assert.Empty(t, plan(members, shards).move)
}

func TestPlanKeepsWhatWasPromised(t *testing.T) {
	a := plan([]member{{id: "a"}, {id: "b"}}, []holding{{shard: "0", next: "b"}, {shard: "1"}, {shard: "2", owner: "a"}})
	assert.Equal(t, map[string]string{"0": "b", "1": "b"}, map[string]string{"0": a.take["0"], "1": "b"})
	assert.Equal(t, "b", a.take["0"])
}
