package consumer

import "github.com/shardlog/shardlog"

// unpack takes aggregated records apart.
func (f *fetcher) unpack(records []shardlog.Record) (out []shardlog.Record, packed bool) {
	return records, false
}
