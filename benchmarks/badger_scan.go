package main

import (
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// badgerScan iterates over one entry per record.
func badgerScan(db *badger.DB, want int) float64 {
	n, bytes, start := 0, 0, time.Now()
	check(db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.DefaultIteratorOptions)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if err := it.Item().Value(func(v []byte) error { bytes += len(v); return nil }); err != nil {
				return err
			}
			n++
		}
		return nil
	}))
	if n != want || bytes == 0 {
		panic(fmt.Sprintf("read %d entries of %d", n, want))
	}
	return float64(n) / time.Since(start).Seconds()
}
