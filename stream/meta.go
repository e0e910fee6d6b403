package stream

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/kv"
	"github.com/shardlog/shardlog/internal/kv/badgerkv"
	"github.com/shardlog/shardlog/internal/logstore"
)

// formatVersion is the version of everything that is stored; docs/FORMAT.md
// describes it. A database with a higher one is refused.
//
// Version 2 has the redo log, without which an earlier program would lose what only
// that has.
const formatVersion = 2

// Keys of metadata; docs/FORMAT.md lists all that are in use.
var (
	keyFormat = []byte("mf") // formatVersion in decimal
	keyNext   = []byte("mn") // number of the next stream, in decimal
	keyState  = []byte("mc") // how the database was left
)

const (
	prefixStream = "ms" // + stream number: streamMeta
	prefixShard  = "mh" // + stream number + shard index: shardMeta
	prefixAttr   = "ma" // + name: an attribute of the database
)

// The values of keyState.
const (
	stateClean = "clean" // closed in order
	stateOpen  = "open:" // and what openState adds
)

func streamKey(stream uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte(prefixStream), stream)
}

func shardKey(id logstore.ID) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte(prefixShard), id.Stream), id.Shard)
}

// streamMeta is the stored form of a stream's configuration. It is a type of
// its own so that a change of Config does not change what is stored unnoticed.
type streamMeta struct {
	Name           string            `json:"name"`
	ID             string            `json:"id,omitempty"` // see Stream.StreamID; "" in those of earlier versions
	Created        int64             `json:"created"`      // Unix milliseconds
	Deleting       bool              `json:"deleting,omitempty"`
	Retention      time.Duration     `json:"retention"`
	RetentionBytes int64             `json:"retentionBytes,omitempty"`
	MaxRecordSize  int               `json:"maxRecordSize"`
	Compression    Compression       `json:"compression,omitempty"`
	Hash           Hash              `json:"hash,omitempty"`
	Limits         Limits            `json:"limits"`
	DedupWindow    time.Duration     `json:"dedupWindow,omitempty"`
	Tags           map[string]string `json:"tags,omitempty"`
	Attributes     map[string]string `json:"attributes,omitempty"`
}

// shardMeta is the stored form of a shard.
type shardMeta struct {
	Parents []uint32         `json:"parents,omitempty"`
	Start   shardlog.HashKey `json:"start"`
	End     shardlog.HashKey `json:"end"`
	// Created is that in sequence numbers, in Unix seconds, and CreatedAt when the
	// shard was really created, in Unix milliseconds.
	Created   int64  `json:"created"`
	CreatedAt int64  `json:"createdAt,omitempty"`
	Base      uint64 `json:"base"`
	Closed    bool   `json:"closed,omitempty"`
	ClosedAt  int64  `json:"closedAt,omitempty"` // Unix milliseconds
	Last      uint64 `json:"last,omitempty"`
	Floor     uint64 `json:"floor,omitempty"` // counters up to it may have been used
}

// createdAt returns when the shard was created. Those of earlier versions know the
// second only.
func (m *shardMeta) createdAt() time.Time {
	if m.CreatedAt == 0 {
		return time.Unix(m.Created, 0)
	}
	return time.UnixMilli(m.CreatedAt)
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // the types above always encode
	}
	return b
}

// stored is all metadata of a database.
type stored struct {
	fresh   bool // nothing was stored yet
	format  int  // version of what is stored
	state   string
	next    uint32
	streams map[uint32]*streamMeta
	shards  map[logstore.ID]*shardMeta
}

// openState is the state of a database that is open, and was recovered: the
// Durability of the process that has it, or died with it, and, if that does not
// sync each commit, the run of the system.
func openState(d Durability, boot string) string {
	state := stateOpen + d.String()
	if d != SyncAlways && boot != "" {
		state += " " + boot
	}
	return state
}

// bootOf returns the run of the system, as long as which what was written to a
// store is there, or "".
func bootOf(store kv.Store) string {
	if s, ok := store.(booted); ok {
		return s.Boot()
	}
	return ""
}

// booted is a store that keeps what was written when the process dies.
type booted interface{ Boot() string }

var _ booted = (*badgerkv.Store)(nil)

// recovery says how the database was left; boot is the run of the system now.
func (m *stored) recovery(boot string) logstore.Recovery {
	unclean := !m.fresh && m.state != stateClean
	mode, was, _ := strings.Cut(strings.TrimPrefix(m.state, stateOpen), " ")
	return logstore.Recovery{
		Unclean:  unclean,
		Unsynced: unclean && mode != SyncAlways.String(),
		// The state is stored after recovery. So if there was a crash of the system
		// before, what it took was looked for.
		Intact: boot != "" && was == boot,
	}
}

// readMeta reads and checks the metadata of a store.
func readMeta(store logstore.Reader) (*stored, error) {
	m := &stored{streams: map[uint32]*streamMeta{}, shards: map[logstore.ID]*shardMeta{}}
	var err error
	if m.format, err = readFormat(store.Get); err != nil {
		return nil, err
	}
	if m.format == 0 {
		m.fresh = true
		return m, nil
	}
	v, err := store.Get(keyState)
	if err != nil {
		return nil, fmt.Errorf("reading the database's state: %w", err)
	}
	m.state = string(v)
	if v, err = store.Get(keyNext); err != nil {
		return nil, fmt.Errorf("reading the next stream number: %w", err)
	}
	n, err := strconv.ParseUint(string(v), 10, 32)
	if err != nil {
		return nil, fmt.Errorf("%w: next stream number %q", shardlog.ErrCorrupt, v)
	}
	m.next = uint32(n)
	if err := m.readStreams(store); err != nil {
		return nil, err
	}
	return m, m.readShards(store)
}

// readFormat returns the format version of what is stored, 0 if nothing is. The
// error matches shardlog.ErrVersion if it is one that this program does not know.
func readFormat(get func(key []byte) ([]byte, error)) (int, error) {
	v, err := get(keyFormat)
	if errors.Is(err, shardlog.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(string(v))
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%w: format version %q", shardlog.ErrCorrupt, v)
	}
	if n > formatVersion {
		return 0, fmt.Errorf("%w: the database has format %d, this program knows up to %d", shardlog.ErrVersion, n, formatVersion)
	}
	return n, nil
}

// acceptFormat keeps the store of a later program from being changed.
func acceptFormat(get func(key []byte) ([]byte, error)) error {
	_, err := readFormat(get)
	return err
}

func (m *stored) readStreams(store logstore.Reader) error {
	return scanValues(store, []byte(prefixStream), func(k, v []byte) error {
		var sm streamMeta
		if err := json.Unmarshal(v, &sm); err != nil || len(k) != len(prefixStream)+4 {
			return fmt.Errorf("%w: metadata of a stream, key %x: %v", shardlog.ErrCorrupt, k, err)
		}
		m.streams[binary.BigEndian.Uint32(k[len(prefixStream):])] = &sm
		return nil
	})
}

func (m *stored) readShards(store logstore.Reader) error {
	return scanValues(store, []byte(prefixShard), func(k, v []byte) error {
		var sm shardMeta
		if err := json.Unmarshal(v, &sm); err != nil || len(k) != len(prefixShard)+8 {
			return fmt.Errorf("%w: metadata of a shard, key %x: %v", shardlog.ErrCorrupt, k, err)
		}
		k = k[len(prefixShard):]
		m.shards[logstore.ID{Stream: binary.BigEndian.Uint32(k), Shard: binary.BigEndian.Uint32(k[4:])}] = &sm
		return nil
	})
}

func scanValues(store logstore.Reader, prefix []byte, f func(k, v []byte) error) error {
	var keys [][]byte
	err := store.Scan(prefix, func(k []byte, _ int64) bool {
		keys = append(keys, append([]byte(nil), k...))
		return true
	})
	for _, k := range keys {
		if err != nil {
			return err
		}
		var v []byte
		if v, err = store.Get(k); err == nil {
			err = f(k, v)
		}
	}
	return err
}
