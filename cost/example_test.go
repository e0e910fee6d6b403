package cost_test

import (
	"fmt"

	"github.com/shardlog/shardlog/cost"
)

// A load described by its rate and size; with it, what aggregation saves.
func ExampleMake() {
	p, err := cost.Describe(cost.Description{Records: 1000, Size: 500})
	if err != nil {
		panic(err)
	}
	e, err := cost.Make(p, &cost.Options{Headroom: cost.NoHeadroom})
	if err != nil {
		panic(err)
	}
	for _, plan := range e.Plans {
		fmt.Printf("%s: $%.2f\n", plan.Name, plan.Dollars)
	}
	// Output:
	// provisioned: $47.74
	// provisioned, ideally aggregated: $11.67
	// on-demand: $229.70
	// on-demand, ideally aggregated: $127.10
}
