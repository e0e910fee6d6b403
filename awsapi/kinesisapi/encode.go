package kinesisapi

import (
	"context"
	"slices"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
	"github.com/shardlog/shardlog/stream"
)

// writeSequence writes a sequence number, without allocating its text.
func writeSequence(e *awswire.Encoder, n shardlog.SequenceNumber) {
	var digits [57]byte
	d, _ := n.AppendText(digits[:0])
	e.Raw(d)
}

// Records that were put without a partition key have this one, because the log
// demands one, and a header that others with the key have not.
const (
	keylessKey    = "-"
	keylessHeader = "kinesis.keyless"
)

// isKeyless reports whether a record was put without a partition key.
func isKeyless(r *shardlog.Record) bool {
	return len(r.Headers) == 1 && r.Headers[0].Key == keylessHeader
}

// writeRecords writes the member Records, of the shard with an index.
func writeRecords(e *awswire.Encoder, list []shardlog.Record, index uint32, encryption *encryptionHistory) {
	size := 0
	for i := range list {
		size += 200 + len(list[i].PartitionKey) + len(list[i].Data)*4/3
	}
	if free := cap(e.Buf) - len(e.Buf); free < size {
		e.Buf = append(make([]byte, 0, len(e.Buf)+size+512), e.Buf...)
	}
	e.Key("Records")
	e.List()
	kinds := encryption.inShard(index)
	var numbers sequenceText
	for i := range list {
		r := &list[i]
		e.Open()
		e.Key("SequenceNumber")
		numbers.write(e, r.Sequence)
		e.TimeField("ApproximateArrivalTimestamp", r.Arrival)
		e.Key("Data")
		e.Blob(r.Data)
		if !isKeyless(r) {
			e.TextField("PartitionKey", r.PartitionKey)
		}
		e.OptionalText("EncryptionType", kinds.next(r.Sequence))
		e.Close()
	}
	e.EndList()
}

// writeShards writes the member Shards.
func writeShards(e *awswire.Encoder, list []shardlog.ShardInfo) {
	e.Key("Shards")
	e.List()
	for i := range list {
		writeShard(e, &list[i])
	}
	e.EndList()
}

// writeHashRange writes the member HashKeyRange.
func writeHashRange(e *awswire.Encoder, s *shardlog.ShardInfo) {
	e.Key("HashKeyRange")
	e.Open()
	e.TextField("StartingHashKey", s.HashStart.String())
	e.TextField("EndingHashKey", s.HashEnd.String())
	e.Close()
}

// writeShard writes the structure Shard.
func writeShard(e *awswire.Encoder, s *shardlog.ShardInfo) {
	e.Open()
	e.TextField("ShardId", s.ID)
	for i, p := range s.Parents {
		e.TextField([...]string{"ParentShardId", "AdjacentParentShardId"}[min(i, 1)], p)
	}
	writeHashRange(e, s)
	e.Key("SequenceNumberRange")
	e.Open()
	e.Key("StartingSequenceNumber")
	writeSequence(e, s.First)
	if s.Closed {
		e.Key("EndingSequenceNumber")
		writeSequence(e, lastNumber(s))
	}
	e.Close()
	e.Close()
}

// lastNumber is what AWS calls the last number of a closed shard: the largest
// that it could have given.
func lastNumber(s *shardlog.ShardInfo) shardlog.SequenceNumber {
	index, _ := s.First.Shard()
	return shardlog.NewSequenceNumber(createdOf(s.First), index, shardlog.MaxCounter, arrivalOf(s.Last))
}

// writeChildren writes the member ChildShards.
func writeChildren(ctx context.Context, e *awswire.Encoder, st *stream.Stream, ids []string) error {
	all, err := st.Shards(ctx)
	if err != nil {
		return err
	}
	e.Key("ChildShards")
	e.List()
	for i := range all {
		if !slices.Contains(ids, all[i].ID) {
			continue
		}
		e.Open()
		e.TextField("ShardId", all[i].ID)
		e.TextsField("ParentShards", all[i].Parents)
		writeHashRange(e, &all[i])
		e.Close()
	}
	e.EndList()
	return nil
}

// behind returns MillisBehindLatest of a page. It is 0 only if nothing follows,
// because clients take 0 for the tip of the shard.
func behind(p *shardlog.Page) int64 {
	if p.BehindRecords == 0 {
		return 0
	}
	return max(1, p.Behind.Milliseconds())
}
