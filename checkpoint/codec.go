package checkpoint

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/shardlog/shardlog"
)

// The formats of a row. A field that is added needs a new number: an older
// program would otherwise drop the field when it rewrites the row.
const (
	formatFirst    = 1 // that of rows without a StreamID, also today
	formatStreamID = 2
	formatLatest   = formatStreamID
)

// row is the stored form of a Lease. It is a type of its own so that a change
// of Lease cannot change stored bytes unnoticed.
type row struct {
	Format        int                `json:"v"`
	Group         string             `json:"group"`
	Stream        string             `json:"stream"`
	Shard         string             `json:"shard"`
	StreamID      string             `json:"streamId,omitempty"`
	Version       uint64             `json:"version"`
	Epoch         uint64             `json:"epoch,omitempty"`
	Owner         string             `json:"owner,omitempty"`
	Next          string             `json:"next,omitempty"`
	Beat          uint64             `json:"beat,omitempty"`
	Checkpoint    shardlog.Position  `json:"checkpoint"`
	Ended         bool               `json:"ended,omitempty"`
	Prepared      *shardlog.Position `json:"prepared,omitempty"`
	PreparedState []byte             `json:"state,omitempty"`
	Parents       []string           `json:"parents,omitempty"`
	Children      []string           `json:"children,omitempty"`
	HashStart     shardlog.HashKey   `json:"hashStart"`
	HashEnd       shardlog.HashKey   `json:"hashEnd"`
	Switches      uint64             `json:"switches,omitempty"`
}

// Marshal returns the stored form of a row, JSON with a format number, for
// stores that keep a row as one value. The bytes are the caller's. The error
// matches shardlog.ErrInvalid when l.Validate fails.
func Marshal(l Lease) ([]byte, error) {
	if err := l.Validate(); err != nil {
		return nil, err
	}
	format := formatFirst
	if l.StreamID != "" {
		format = formatStreamID
	}
	b, err := json.Marshal(row{
		Format: format,
		Group:  l.Group, Stream: l.Stream, Shard: l.Shard, StreamID: l.StreamID,
		Version: l.Version, Epoch: l.Epoch, Owner: l.Owner, Next: l.Next, Beat: l.Beat,
		Checkpoint: l.Checkpoint, Ended: l.Ended,
		Prepared: l.Prepared, PreparedState: l.PreparedState,
		Parents: l.Parents, Children: l.Children,
		HashStart: l.HashStart, HashEnd: l.HashEnd, Switches: l.Switches,
	})
	if err != nil {
		return nil, fmt.Errorf("checkpoint: encode row: %w", err)
	}
	return b, nil
}

// Unmarshal reads what Marshal wrote. The Lease shares no memory with data.
// The error matches shardlog.ErrCorrupt when data is not a valid row, and
// shardlog.ErrVersion when a newer program has written it.
func Unmarshal(data []byte) (Lease, error) {
	// The format comes first: a newer one may have fields that are unknown
	// here, and that is no corruption.
	var head struct {
		Format int `json:"v"`
	}
	// Causes are shown but not wrapped: what is out of its limits in a stored
	// row is damage, not an argument that the caller could correct.
	if err := json.Unmarshal(data, &head); err != nil {
		return Lease{}, fmt.Errorf("checkpoint: %w row: %v", shardlog.ErrCorrupt, err)
	}
	if head.Format > formatLatest {
		return Lease{}, fmt.Errorf("checkpoint: row: %w: found %d, known up to %d", shardlog.ErrVersion, head.Format, formatLatest)
	}
	var r row
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return Lease{}, fmt.Errorf("checkpoint: %w row: %v", shardlog.ErrCorrupt, err)
	}
	if _, err := dec.Token(); err != io.EOF || r.Format < formatFirst {
		return Lease{}, fmt.Errorf("checkpoint: %w row: bad format number or trailing bytes", shardlog.ErrCorrupt)
	}
	l := Lease{
		Key: Key{Group: r.Group, Stream: r.Stream, Shard: r.Shard}, StreamID: r.StreamID,
		Version: r.Version, Epoch: r.Epoch, Owner: r.Owner, Next: r.Next, Beat: r.Beat,
		Checkpoint: r.Checkpoint, Ended: r.Ended,
		Prepared: r.Prepared, PreparedState: r.PreparedState,
		Parents: r.Parents, Children: r.Children,
		HashStart: r.HashStart, HashEnd: r.HashEnd, Switches: r.Switches,
	}
	if err := l.Validate(); err != nil {
		return Lease{}, fmt.Errorf("checkpoint: %w row: %v", shardlog.ErrCorrupt, err)
	}
	return l, nil
}
