package shard_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/shard"
	"github.com/shardlog/shardlog/stream"
)

// An account's events are on one shard. A decision is stored only if nothing
// was added since the events that it is based on were read.
func Example() {
	ctx := context.Background()
	db, err := stream.Open("", &stream.Options{InMemory: true})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	st, err := db.Ensure(ctx, "accounts", stream.Config{})
	if err != nil {
		log.Fatal(err)
	}
	account, err := st.Shard(shardlog.ShardID(0))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := account.Append(ctx, []shardlog.Record{{PartitionKey: "ann", Data: []byte("+100")}}); err != nil {
		log.Fatal(err)
	}

	balance, last := replay(ctx, account)
	withdraw := []shardlog.Record{{PartitionKey: "ann", Data: []byte("-80")}}
	if balance >= 80 {
		_, err = account.PutIf(ctx, last, withdraw)
		fmt.Println("first:", err)
	}
	// Another one decided at the same time, on the same balance.
	_, err = account.PutIf(ctx, last, withdraw)
	fmt.Println("second is refused:", errors.Is(err, shardlog.ErrConflict))

	balance, _ = replay(ctx, account)
	fmt.Println("balance:", balance)
	// Output:
	// first: <nil>
	// second is refused: true
	// balance: 20
}

// replay adds up the events of a shard.
func replay(ctx context.Context, s *shard.Shard) (balance int, last shardlog.SequenceNumber) {
	for r, err := range s.Records(ctx, shardlog.TrimHorizon()) {
		if err != nil {
			log.Fatal(err)
		}
		var change int
		if _, err := fmt.Sscan(string(r.Data), &change); err != nil {
			log.Fatal(err)
		}
		balance, last = balance+change, r.Sequence
	}
	return balance, last
}
