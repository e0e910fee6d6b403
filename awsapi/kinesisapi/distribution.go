package kinesisapi

import (
	"github.com/shardlog/shardlog"
)

func strategyNeedsOnDemand() error {
	return invalid("RecordDistributionStrategy %s can only be specified for streams in %s mode.", strategyAuto, modeOnDemand)
}

// updateStrategy carries out UpdateStreamRecordDistributionStrategy, which holds for
// the next record.
func updateStrategy(c *call) error {
	return changeSettings(c, func(_ *streamState, set *settings) error {
		strategy := c.In.Text("RecordDistributionStrategy")
		if strategy == strategyUserKey {
			strategy = ""
		} else if set.Mode != modeOnDemand {
			return strategyNeedsOnDemand()
		}
		set.Strategy = strategy
		return nil
	})
}

// distributes reports whether a request names a stream that distributes records by
// itself, and that the caller may use.
func (c *call) distributes() bool {
	sc, name := c.Scope, c.In.Text("StreamName")
	if p, ok := parseARN(c.In.Text("StreamARN")); ok {
		sc, name = p.scope, p.stream
	}
	if !c.MayUse(sc) {
		return false
	}
	s, err := c.svc.streams.find(c.Ctx, sc, name, c.Clock())
	return err == nil && s.settings.Load().Strategy == strategyAuto
}

// distribute gives the records to the open shards in turn, whatever their keys, if
// that is the strategy of the stream.
func (s *streamState) distribute(c *call, p *putInput) error {
	if s.settings.Load().Strategy != strategyAuto {
		return nil
	}
	all, err := s.st.Shards(c.Ctx)
	if err != nil {
		return err
	}
	var starts []shardlog.HashKey
	for i := range all {
		if !all[i].Closed {
			starts = append(starts, all[i].HashStart)
		}
	}
	p.unpack()
	for i := range p.records {
		r := &p.records[i]
		r.ExplicitHashKey = starts[s.turn.Add(1)%uint64(len(starts))]
		if r.PartitionKey == "" {
			r.PartitionKey, r.Headers = keylessKey, []shardlog.Header{{Key: keylessHeader}}
			if most := s.st.Info().MaxRecordSize; r.Size() > most {
				return invalid("Record size of %d bytes, of which %d are those of a record without a partition key, exceeds the limit of %d bytes.", r.Size(), r.Size()-len(r.Data), most)
			}
		}
	}
	return nil
}
