// Command patterns is a program outside the tree: it runs a small workload on
// a log of its own.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/shardlog/shardlog/benchmarks/patterns"
)

func main() {
	w := patterns.Workload{Name: "outside", Records: 100, Memory: true, Consumers: patterns.Consumers{Count: 1}}
	res, err := patterns.Run(context.Background(), &patterns.InProcess{}, w, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("patterns:", res.Check.Acked, "records acknowledged")
}
