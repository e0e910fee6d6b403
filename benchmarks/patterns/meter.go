package patterns

import (
	"context"

	"github.com/shardlog/shardlog"
)

// meter is a sink that counts the calls that it forwards.
type meter struct {
	shardlog.Sink
	r *recorder
}

// PutRecords implements shardlog.Sink.
func (m *meter) PutRecords(ctx context.Context, records []shardlog.Record) ([]shardlog.PutResult, error) {
	res, err := m.Sink.PutRecords(ctx, records)
	m.r.called(records, res, err, m.r.clock.now())
	return res, err
}

// Capabilities implements shardlog.Capable.
func (m *meter) Capabilities() shardlog.Capabilities { return shardlog.CapabilitiesOf(m.Sink) }

// requestMeter is a meter for a shardlog.RequestSink.
type requestMeter struct {
	meter
	sink shardlog.RequestSink
}

// OpenProducer implements shardlog.RequestSink.
func (m *requestMeter) OpenProducer(ctx context.Context, id string) (uint64, error) {
	return m.sink.OpenProducer(ctx, id)
}

// PutRequest implements shardlog.RequestSink.
func (m *requestMeter) PutRequest(ctx context.Context, req *shardlog.PutRequest) ([]shardlog.PutResult, error) {
	res, err := m.sink.PutRequest(ctx, req)
	m.r.called(req.Records, res, err, m.r.clock.now())
	return res, err
}

// metered returns a sink that forwards to log and counts in r.
func metered(log shardlog.Sink, r *recorder) shardlog.Sink {
	m := meter{log, r}
	if s, ok := log.(shardlog.RequestSink); ok {
		return &requestMeter{m, s}
	}
	return &m
}
