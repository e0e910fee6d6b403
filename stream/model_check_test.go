package stream

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"sort"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// verify compares everything that the database has with the model.
func (m *model) verify() {
	if m.store != nil && !m.store.spare() {
		return // it is opened again first
	}
	m.reconcile()
	var names []string
	streams, err := m.db.Streams(context.Background())
	require.NoError(m.t, err)
	for _, st := range streams {
		names = append(names, st.Name())
	}
	require.Len(m.t, names, len(m.streams))
	require.True(m.t, sort.StringsAreSorted(names))
	for _, name := range names {
		st, err := m.db.Stream(context.Background(), name)
		require.NoError(m.t, err)
		require.Contains(m.t, m.streams, name)
		m.verifyStream(st, m.streams[name])
	}
	rows, err := m.db.Checkpoints().List(context.Background(), "g", "")
	require.NoError(m.t, err)
	require.Len(m.t, rows, len(m.rows))
	for _, row := range rows {
		want := m.rows[row.Key]
		require.Equal(m.t, normal(want), normal(row))
	}
}

func normal(l checkpoint.Lease) checkpoint.Lease {
	if len(l.PreparedState) == 0 {
		l.PreparedState = nil
	}
	return l
}

// reconcile finds out how a creation or deletion ended that a kill cut off.
func (m *model) reconcile() {
	if m.unsure == "" {
		return
	}
	name := m.unsure
	m.unsure = ""
	st, err := m.db.Stream(context.Background(), name)
	switch ms := m.streams[name]; {
	case err != nil:
		require.ErrorIs(m.t, err, shardlog.ErrNotFound)
		delete(m.streams, name)
	case ms == nil:
		ms = &modelStream{shards: map[string]*modelShard{}}
		m.streams[name] = ms
		ms.follow(m.t, st)
		require.Empty(m.t, readStream(m.t, st))
	}
}

func (m *model) verifyStream(st *Stream, ms *modelStream) {
	infos := shards(m.t, st)
	requireCovered(m.t, infos)
	seen := map[string]bool{}
	for _, s := range infos {
		seen[s.ID] = true
	}
	for id, s := range ms.shards {
		if seen[id] {
			continue
		}
		require.True(m.t, s.closed && ms.drops, "%s was forgotten", id)
		require.Empty(m.t, s.maybe)
		delete(ms.shards, id)
	}
	ms.follow(m.t, st) // a reshard that was cut off may have been made in part
	type last struct {
		n   uint64
		seq shardlog.SequenceNumber
	}
	byKey := map[string]last{}
	for _, info := range infos {
		s := ms.shards[info.ID]
		got := readAll(m.t, st, info.ID)
		m.compare(ms, s, info, got)
		for _, r := range got {
			n := binary.BigEndian.Uint64(r.Data)
			before := byKey[r.PartitionKey]
			require.Greater(m.t, n, before.n, "order of key %q", r.PartitionKey)
			require.Positive(m.t, r.Sequence.Compare(before.seq), "numbers of key %q grow along the lineage", r.PartitionKey)
			byKey[r.PartitionKey] = last{n, r.Sequence}
			k := hashOf(st, &shardlog.Record{PartitionKey: r.PartitionKey})
			if r.ExplicitHashKey.IsSet() {
				k = r.ExplicitHashKey
			}
			require.True(m.t, info.HashStart.Compare(k) <= 0 && k.Compare(info.HashEnd) <= 0)
		}
	}
}

// compare checks the records of one shard, and moves the model's horizon to
// where the database's is.
func (m *model) compare(ms *modelStream, s *modelShard, info shardlog.ShardInfo, got []shardlog.Record) {
	want := s.records
	if len(s.maybe) > 0 && len(got) > 0 && binary.BigEndian.Uint64(got[len(got)-1].Data) >= s.maybe[0].n {
		for i := range s.maybe {
			n := s.maybe[len(s.maybe)-1-i].n
			g := &got[len(got)-1-i]
			require.Equal(m.t, n, binary.BigEndian.Uint64(g.Data), "a call that was cut off is stored whole")
			s.maybe[len(s.maybe)-1-i].seq = g.Sequence
			if len(got) == i+1 {
				break // retention took the rest
			}
		}
		want = append(want, s.maybe...)
	}
	s.maybe = nil
	require.LessOrEqual(m.t, len(got), len(want))
	if trimmed := len(want) - len(got); trimmed > 0 {
		require.True(m.t, ms.trims || ms.drops, "%d records of %s are gone", trimmed, info.ID)
		s.horizon = max(s.horizon, counterOf(want[trimmed-1].seq)+1)
		want = want[trimmed:]
	}
	s.records = want
	var seq shardlog.SequenceNumber
	var arrival time.Time
	for i := range got {
		m.requireRecord(&want[i], &got[i], info.ID)
		require.Positive(m.t, got[i].Sequence.Compare(seq))
		require.False(m.t, got[i].Arrival.Before(arrival))
		require.GreaterOrEqual(m.t, counterOf(got[i].Sequence), s.horizon, "the horizon went back")
		seq, arrival = got[i].Sequence, got[i].Arrival
	}
	if info.Closed && len(got) > 0 {
		require.Equal(m.t, seq, info.Last)
	}
}

func (m *model) requireRecord(want *modelRecord, got *shardlog.Record, shardID string) {
	rec := want.record()
	require.Equal(m.t, rec.PartitionKey, got.PartitionKey)
	require.Equal(m.t, want.n, binary.BigEndian.Uint64(got.Data))
	require.True(m.t, bytes.Equal(rec.Data, got.Data), "data of record %d", want.n)
	require.Equal(m.t, rec.Headers, got.Headers)
	require.Equal(m.t, rec.ExplicitHashKey, got.ExplicitHashKey)
	require.Equal(m.t, shardID, got.ShardID)
	if want.seq.IsSet() {
		require.Equal(m.t, want.seq, got.Sequence)
	}
}

// readPage reads one page from a random place.
func (m *model) readPage() {
	name, ms, st := m.pick()
	if name == "" || (m.store != nil && !m.store.spare()) {
		return
	}
	m.verifyStream(st, ms) // so that the model knows the horizons
	infos := shards(m.t, st)
	info := infos[m.r.Intn(len(infos))]
	s := ms.shards[info.ID]
	req := shardlog.ReadRequest{ShardID: info.ID, MaxRecords: m.r.Intn(30), MaxBytes: m.r.Intn(40 << 10)}
	at := 0
	if len(s.records) > 0 {
		at = m.r.Intn(len(s.records))
		switch m.r.Intn(4) {
		case 0:
			req.From = shardlog.At(s.records[at].seq)
		case 1:
			req.From = shardlog.After(s.records[at].seq)
			at++
		case 2:
			req.From, at = shardlog.Latest(), len(s.records)
		default:
			at = 0
		}
	}
	for range 3 {
		p, err := st.Read(context.Background(), req)
		if err != nil {
			require.True(m.t, errors.Is(err, shardlog.ErrExpired) && (ms.trims || ms.drops) || errors.Is(err, shardlog.ErrNotFound) && ms.drops, "%v", err)
			return
		}
		if len(p.Records) > 0 && at < len(s.records) && p.Records[0].Sequence != s.records[at].seq {
			require.True(m.t, ms.trims || ms.drops) // it was trimmed just now
			return
		}
		require.LessOrEqual(m.t, at+len(p.Records), len(s.records))
		size := 0
		for i := range p.Records {
			m.requireRecord(&s.records[at+i], &p.Records[i], info.ID)
			size += p.Records[i].Size()
		}
		at += len(p.Records)
		if req.MaxRecords > 0 {
			require.LessOrEqual(m.t, len(p.Records), req.MaxRecords)
		}
		if req.MaxBytes > 0 && len(p.Records) > 1 {
			require.LessOrEqual(m.t, size, req.MaxBytes)
		}
		if ms.trims || ms.drops {
			require.LessOrEqual(m.t, p.BehindRecords, int64(len(s.records)-at))
		} else {
			require.Equal(m.t, int64(len(s.records)-at), p.BehindRecords)
		}
		require.Equal(m.t, info.Closed && p.BehindRecords == 0, p.End)
		if p.End {
			require.NotEmpty(m.t, p.Children)
		}
		req.From = p.Next
	}
}
