package main

// works are all works with their sides.
func works() (all []work) {
	for _, w := range manners {
		some := systems
		if w.size != small.size || w.writers > 16 {
			some = named(us, plain, badgers, pebbles, tidwall)
		}
		all = append(all, ofSystems(w.name(), some, func(s system) bool { return w.sync && s.synced == "" || !w.sync && s.unsynced == "" },
			func(s system) metrics { return appendFor(s, w) }))
	}
	lent := []system{{usLent, inKernel, "", openOursLent}, {tidwall + ", by reference", inKernel, "", openTidwallLent}}
	for _, sh := range []shape{small, explicit, large} {
		some := named(us, plain, badgers, pebbles, tidwall)
		if sh == small {
			some = systems
		}
		all = append(all, ofSystems("scan"+sh.String(), append(append([]system{}, some...), lent...), nil,
			func(s system) metrics { return scanAfterLoad(s, sh) }))
	}
	all = append(all, ofSystems("hand-over", named(us, plain, "JetStream, file", "JetStream, memory", franz), nil, handOver),
		ofSystems("reopen", named(us, pebbles, tidwall), nil, reopen),
		work{"shards", []side{{"1", func() metrics { return manyShards(1) }}, {"1,000", func() metrics { return manyShards(pick(1000, 50)) }}}},
		work{"streams", []side{{"1", func() metrics { return manyStreams(1) }}, {"1,000", func() metrics { return manyStreams(pick(1000, 50)) }}}},
		ofSystems("idle", named(us, "bbolt", pebbles), nil, idle))
	all = append(all, clientWorks()...)
	return append(all, httpWorks()...)
}

// ofSystems is a work of all systems but those that cannot do it.
func ofSystems(name string, some []system, cannot func(system) bool, play func(system) metrics) work {
	w := work{name: name}
	for _, s := range some {
		if cannot == nil || !cannot(s) {
			w.sides = append(w.sides, side{s.name, func() metrics { return play(s) }})
		}
	}
	return w
}
