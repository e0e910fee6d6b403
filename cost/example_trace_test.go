package cost_test

import (
	"fmt"
	"time"

	"github.com/shardlog/shardlog/cost"
)

// Real records show that the worst second, and one key in it, decide.
func ExampleTrace() {
	var t cost.Trace
	start := time.Unix(0, 0)
	for second := range 60 {
		for i := range 100 {
			_ = t.Add(start.Add(time.Duration(second)*time.Second), fmt.Sprint("client-", i), 200)
		}
	}
	for range 2000 {
		_ = t.Add(start.Add(30*time.Second), "client-7", 200)
	}
	p, err := t.Pattern()
	if err != nil {
		panic(err)
	}
	e, err := cost.Make(p, nil)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%d shard by the mean, %s fills %.1f shards, risk %s\n", e.Need.AverageShards, e.Need.HotKey, e.Need.HotKeyFill, e.Plans[0].Throttling.Risk)
	// Output:
	// 1 shard by the mean, client-7 fills 2.0 shards, risk always
}
