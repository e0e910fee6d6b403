package patterns

import (
	"time"
)

// summary converts a slice to the form of a report; ids are the shard IDs in
// order.
func (s *slice) summary(second int, ids []string) Second {
	t := Second{Second: second, Records: s.acked.records, Bytes: s.acked.bytes, Delivered: s.delivered.records, Throttled: s.throttled}
	if s.ack != nil {
		l := latency(s.ack)
		t.AckP50, t.AckP99, t.AckMax = l.P50, l.P99, l.Max
	}
	if s.delivery != nil {
		l := latency(s.delivery)
		t.DeliveryP50, t.DeliveryP99, t.DeliveryMax = l.P50, l.P99, l.Max
	}
	t.StoredRecords, t.StoredBytes = make([]int64, len(ids)), make([]int64, len(ids))
	for i, id := range ids {
		if n := s.shards[id]; n != nil {
			t.StoredRecords[i], t.StoredBytes[i] = n.records, n.bytes
		}
	}
	return t
}

// result returns the result of the run, which has ended.
func (r *run) result(m *material, w *watch) *Result {
	r.ledger.flush()
	all := r.ledger.all()
	end := r.clock.end.Load()
	res := &Result{
		Workload: *r.w, Started: r.clock.start.Add(time.Duration(r.clock.warm)).UTC().Round(time.Millisecond),
		Seconds: max(float64(end-r.clock.warm)/1e9, 1e-9), Offered: r.w.Rate, Sizes: []SizeBucket{}, MalformedLines: m.malformed,
	}
	ack, delivery := fine(), fine()
	refused := map[string]int64{}
	var sizes [64]load
	for _, c := range all {
		ack, delivery = mergeInto(ack, c.ack, fine), mergeInto(delivery, c.delivery, fine)
		for id, n := range c.refused {
			refused[id] += n
			res.Throttled += n
		}
		for i, n := range c.sizes {
			sizes[i].records += n.records
			sizes[i].bytes += n.bytes
			res.Bytes += n.bytes
		}
		res.Failed += c.failed
		res.Calls += c.calls
		res.ReadsThrottled += c.reads
		res.Stored.Records += c.stored.records
		res.Stored.Bytes += c.stored.bytes
		res.Stored.PutUnits += c.units
		res.Stored.RoundedBytes += c.rounded
	}
	for i, n := range sizes {
		if n.records > 0 {
			res.Sizes = append(res.Sizes, SizeBucket{1 << i, n.records, n.bytes})
		}
	}
	res.Ack, res.Delivery = latency(ack), latency(delivery)
	r.fillSeconds(res, refused)
	counts := keyCounts(all)
	res.Keys, res.DistinctKeys = hottest(counts, m.names, 20), len(counts)
	if r.w.Duration > 0 && r.ctx.Err() == nil {
		for _, f := range r.feeders {
			if f.pace != nil && r.w.Records == 0 {
				res.Backlog += f.pace.backlog(int64(r.w.Duration))
			}
		}
	}
	res.RecordsPerSecond, res.BytesPerSecond = float64(res.Records)/res.Seconds, float64(res.Bytes)/res.Seconds
	if n := len(r.receivers); n > 0 {
		res.DeliveredPerSecond = float64(res.Delivered) / res.Seconds / float64(n)
	}
	s := &res.Stored
	s.RecordsPerSecond, s.BytesPerSecond, s.PutUnitsPerSecond = float64(s.Records)/res.Seconds, float64(s.Bytes)/res.Seconds, float64(s.PutUnits)/res.Seconds
	res.Process, res.Disk = r.needed(res, w)
	res.Check = r.check()
	return res
}

// fillSeconds fills in the figures of each second and of each shard.
func (r *run) fillSeconds(res *Result, refused map[string]int64) {
	ids := make([]string, len(r.shards))
	res.Shards = make([]ShardLoad, len(r.shards))
	for i := range r.shards {
		ids[i] = r.shards[i].ID
		res.Shards[i] = ShardLoad{ID: ids[i], Throttled: refused[ids[i]]}
	}
	res.PerSecond = []Second{}
	res.Bytes = 0
	for i, s := range r.ledger.seconds {
		t := s.summary(i, ids)
		res.PerSecond = append(res.PerSecond, t)
		res.Records += t.Records
		res.Bytes += t.Bytes
		res.Delivered += t.Delivered
		var sum load
		for j := range ids {
			sh := &res.Shards[j]
			sh.Records += t.StoredRecords[j]
			sh.Bytes += t.StoredBytes[j]
			sh.WorstSecondRecords = max(sh.WorstSecondRecords, t.StoredRecords[j])
			sh.WorstSecondBytes = max(sh.WorstSecondBytes, t.StoredBytes[j])
			sum.records += t.StoredRecords[j]
			sum.bytes += t.StoredBytes[j]
		}
		res.Stored.WorstSecondRecords = max(res.Stored.WorstSecondRecords, sum.records)
		res.Stored.WorstSecondBytes = max(res.Stored.WorstSecondBytes, sum.bytes)
	}
	for j := range res.Shards {
		sh := &res.Shards[j]
		sh.MeanRecords, sh.MeanBytes = float64(sh.Records)/res.Seconds, float64(sh.Bytes)/res.Seconds
		if res.Stored.Records > 0 {
			sh.Share = float64(sh.Records) / float64(res.Stored.Records)
		}
	}
}

// needed fills in what the process and the disk had to do.
func (r *run) needed(res *Result, w *watch) (p Process, d *Disk) {
	p = Process{CPUSeconds: (w.end.cpu - w.begin.cpu).Seconds(), MaxHeap: w.maxHeap}
	if n := float64(res.Records); n > 0 {
		p.CPUPerRecord = p.CPUSeconds * 1e9 / n
		p.AllocsPerRecord = float64(w.end.allocs-w.begin.allocs) / n
		p.AllocBytesPerRecord = float64(w.end.bytes-w.begin.bytes) / n
	}
	if u := r.log.Usage(); u != (Usage{}) {
		d = &Disk{Bytes: u.DiskBytes, Live: u.LiveBytes, Written: w.end.written - w.begin.written, Syncs: w.end.syncs - w.begin.syncs}
		if res.Bytes > 0 {
			d.Amplification = float64(d.Written) / float64(res.Bytes)
		}
	}
	return p, d
}

// check checks that every acknowledged record was delivered.
func (r *run) check() Check {
	c := Check{Acked: r.ledger.count()}
	for i, v := range r.receivers {
		missing := v.missing(r)
		c.Missing += missing
		if i == 0 || c.Acked-missing < c.Delivered {
			c.Delivered = c.Acked - missing
		}
		c.Duplicates += v.duplicates
		c.Misordered += v.misordered
		c.Foreign += v.foreign
	}
	return c
}
