package kinesisapi

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
	"github.com/shardlog/shardlog/internal/ctxsync"
	"github.com/shardlog/shardlog/stream"
)

// settings are what Kinesis keeps about a stream and the log does not. They
// are stored as one of its attributes.
type settings struct {
	Mode       string   `json:"mode,omitempty"` // PROVISIONED if empty
	Encryption string   `json:"encryption,omitempty"`
	KeyID      string   `json:"keyId,omitempty"`
	Metrics    []string `json:"metrics,omitempty"`
	Warm       int64    `json:"warm,omitempty"`
	Strategy   string   `json:"strategy,omitempty"` // USER_PARTITION_KEY if empty
	// Scalings are when UpdateShardCount was called in the last day.
	Scalings []awswire.Moment `json:"scalings,omitempty"`
	// Switches are when the mode was changed in the last day.
	Switches []awswire.Moment `json:"switches,omitempty"`
}

const (
	attrSettings = "kinesis.settings"
	attrPolicy   = "kinesis.policy/" // + consumer and creation; nothing for the stream

	modeProvisioned = "PROVISIONED"
	modeOnDemand    = "ON_DEMAND"
)

// The record distribution strategies (API reference,
// UpdateStreamRecordDistributionStrategy).
const (
	strategyAuto    = "AUTO"
	strategyUserKey = "USER_PARTITION_KEY"
)

// mode returns the stream mode.
func (s *settings) mode() string {
	if s.Mode == "" {
		return modeProvisioned
	}
	return s.Mode
}

// encryption returns EncryptionType as descriptions show it. Records of a stream
// without encryption do not have the member at all.
func (s *settings) encryption() string {
	if s.Encryption == "" {
		return "NONE"
	}
	return s.Encryption
}

// streamState is what the endpoint keeps about a stream.
type streamState struct {
	st *stream.Stream
	id identity
	// idHash is that of the stream's ID. Tokens have it, so that they are known
	// from those of a stream that had the name before.
	idHash uint64

	// removal is held by one deletion at a time; gone is set by the first, after
	// which the name may be another stream's.
	removal ctxsync.Mutex
	gone    bool

	// control is held by one operation at a time that changes the stream, while
	// the database changes too. It is locked before the locks
	// of consumers, of subscriptions and of the registry.
	control ctxsync.Mutex
	// change and settings are read without a lock and replaced under control:
	// requests for records must not wait for an operation that changes the
	// stream.
	change   atomic.Pointer[transition] // nil for ACTIVE
	settings atomic.Pointer[settings]
	// encryption is changed together with the setting. While it is, changing is
	// set and closed afterwards; encryptionNow waits for it.
	encryption atomic.Pointer[encryptionHistory]
	changing   atomic.Pointer[chan struct{}]

	consumers     consumerSet
	subscriptions subscriptionSet

	// turn is whose turn it is of the open shards, where the stream distributes
	// records by itself.
	turn atomic.Uint64
}

// newState reads what the attributes of a stream say.
func newState(st *stream.Stream) *streamState {
	s := &streamState{st: st, id: readIdentity(st), idHash: xxhash.Sum64String(st.Info().ID), removal: ctxsync.NewMutex(), control: ctxsync.NewMutex()}
	s.consumers.byName = loadConsumers(st.Attributes())
	s.subscriptions.open = map[subscriptionKey]*subscription{}
	var set settings
	if text := st.Attribute(attrSettings); text != "" {
		// Text that the endpoint has not written leaves the defaults.
		if err := json.Unmarshal([]byte(text), &set); err != nil {
			set = settings{}
		}
	}
	s.settings.Store(&set)
	s.encryption.Store(decodeEncryption(st.Attributes(), set.Encryption != ""))
	return s
}

// status returns the present state.
func (s *streamState) status(clock *awswire.Clock) string { return s.change.Load().statusAt(clock) }

// listed returns the shards that lists show: all but those that the present
// state hides, whose parents seem to be open.
func (s *streamState) listed(ctx context.Context, clock *awswire.Clock) ([]shardlog.ShardInfo, error) {
	all, err := s.st.Shards(ctx)
	t := s.change.Load()
	if err != nil || t.statusAt(clock) == statusActive {
		return all, err
	}
	hidden := map[string]bool{}
	all = slices.DeleteFunc(all, func(i shardlog.ShardInfo) bool {
		if !t.hides(i.ID) {
			return false
		}
		for _, p := range i.Parents {
			hidden[p] = true
		}
		return true
	})
	for i := range all {
		if hidden[all[i].ID] {
			all[i].Closed, all[i].Last = false, shardlog.SequenceNumber{}
		}
	}
	return all, nil
}

// endsAt reports whether a page is the last of its shard. While the children are
// hidden the shard seems to be open to those who read it too: a client that learns
// of its end looks for the children in a list, some only once.
func (s *streamState) endsAt(p *shardlog.Page, clock *awswire.Clock) bool {
	if !p.End {
		return false
	}
	t := s.change.Load()
	return t.statusAt(clock) == statusActive || !slices.ContainsFunc(p.Children, t.hides)
}

// openShards returns how many of the listed shards are open.
func (s *streamState) openShards(ctx context.Context, clock *awswire.Clock) (n int, err error) {
	if s.status(clock) == statusActive {
		return s.st.Info().OpenShards, nil
	}
	all, err := s.listed(ctx, clock)
	for i := range all {
		if !all[i].Closed {
			n++
		}
	}
	return n, err
}

// reshape changes the shards, which were these. The new ones are shown when the
// stream is ACTIVE again, as on AWS. Control is held.
func (s *streamState) reshape(c *call, before []shardlog.ShardInfo, do func() error) error {
	last := s.change.Load()
	index, _ := shardIndex(before[len(before)-1].ID)
	s.beginHiding(statusUpdating, c.svc.opts.UpdateTime, c.Clock(), index+1)
	err := do()
	if err != nil {
		s.change.Store(last)
	}
	return err
}

// begin enters a state that lasts for some time.
func (s *streamState) begin(status string, lasts time.Duration, clock *awswire.Clock) {
	s.beginHiding(status, lasts, clock, math.MaxUint32)
}

// beginHiding is begin for a state in which lists show no shards but those with
// an index below shown.
func (s *streamState) beginHiding(status string, lasts time.Duration, clock *awswire.Clock, shown uint32) {
	if lasts > 0 {
		s.change.Store(&transition{status: status, began: clock.Moment(), lasts: lasts, shown: shown})
	}
}

// encryptionNow returns the history for records that were written or read before
// the call. Those behind a change that is being stored were written after it had
// begun, so their readers wait for it: what is said of a record stays.
func (s *streamState) encryptionNow(ctx context.Context) *encryptionHistory {
	if done := s.changing.Load(); done != nil {
		select {
		case <-*done:
		case <-ctx.Done(): // nobody reads the answer
		}
	}
	return s.encryption.Load()
}

// updateSettings changes the settings of a stream; control is held.
func (s *streamState) updateSettings(ctx context.Context, change func(*settings)) error {
	next := *s.settings.Load()
	change(&next)
	b, err := json.Marshal(&next)
	if err != nil {
		return err
	}
	if err := s.st.SetAttributes(ctx, map[string]string{attrSettings: string(b)}); err != nil {
		return err
	}
	s.settings.Store(&next)
	return nil
}

// identity is who owns a stream under which name; it is stored as an attribute
// of the stream. A stream without one was created in the process, and every
// account sees it.
type identity struct {
	Account string `json:"account"`
	Region  string `json:"region"`
	Name    string `json:"name"`
}

const attrIdentity = "kinesis"

// readIdentity returns who owns a stream.
func readIdentity(st *stream.Stream) (id identity) {
	if text := st.Attribute(attrIdentity); text != "" {
		if err := json.Unmarshal([]byte(text), &id); err == nil {
			return id
		}
	}
	return identity{Name: st.Name()}
}

// visible reports whether the stream has a name in a scope.
func (s *streamState) visible(sc awswire.Scope, name string) bool {
	id := &s.id
	return id.Name == name && (id.Account == "" || id.Account == sc.Account && id.Region == sc.Region)
}
