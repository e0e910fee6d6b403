package kinesisapi

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// States of streams and consumers.
const (
	statusActive   = "ACTIVE"
	statusCreating = "CREATING"
	statusUpdating = "UPDATING"
	statusDeleting = "DELETING"
)

// transition is a state that ends.
type transition struct {
	status string
	until  time.Time
}

// settings are what Kinesis keeps about a stream and the log does not. They
// are stored as one of its attributes.
type settings struct {
	Mode       string   `json:"mode,omitempty"` // PROVISIONED if empty
	Encryption string   `json:"encryption,omitempty"`
	KeyID      string   `json:"keyId,omitempty"`
	Metrics    []string `json:"metrics,omitempty"`
	Warm       int64    `json:"warm,omitempty"`
	// Scalings are when UpdateShardCount was called in the last day, Unix
	// milliseconds.
	Scalings []int64 `json:"scalings,omitempty"`
	// Switches are when the mode was changed in the last day.
	Switches []int64 `json:"switches,omitempty"`
}

const (
	attrSettings = "kinesis.settings"
	attrPolicy   = "kinesis.policy/" // + consumer and creation; nothing for the stream

	modeProvisioned = "PROVISIONED"
	modeOnDemand    = "ON_DEMAND"
)

func (s *settings) mode() string {
	if s.Mode == "" {
		return modeProvisioned
	}
	return s.Mode
}

func (s *settings) encryption() string {
	if s.Encryption == "" {
		return "NONE"
	}
	return s.Encryption
}

// streamState is what the handler keeps about a stream.
type streamState struct {
	st *stream.Stream
	id identity

	// removal lets one deletion at a time go through; gone is set by the first,
	// after which the name may be another stream's.
	removal sync.Mutex
	gone    bool

	// control lets one operation at a time change the stream.
	control  sync.Mutex
	change   atomic.Pointer[transition] // nil for ACTIVE
	settings atomic.Pointer[settings]   // replaced under control

	mu        sync.Mutex
	consumers map[string]*consumer // by name
	subs      map[subscriptionKey]*subscription
}

func newState(st *stream.Stream) *streamState {
	s := &streamState{st: st, id: readIdentity(st), consumers: map[string]*consumer{}, subs: map[subscriptionKey]*subscription{}}
	var set settings
	if text := st.Attribute(attrSettings); text != "" {
		// Somebody else's text leaves the defaults.
		if err := json.Unmarshal([]byte(text), &set); err != nil {
			set = settings{}
		}
	}
	s.settings.Store(&set)
	s.loadConsumers()
	return s
}

// status returns the state at a time.
func (s *streamState) status(now time.Time) string {
	if t := s.change.Load(); t != nil && (t.status == statusDeleting || now.Before(t.until)) {
		return t.status
	}
	return statusActive
}

// begin enters a state that lasts for some time.
func (h *Handler) begin(s *streamState, status string, lasts time.Duration) {
	if lasts > 0 {
		s.change.Store(&transition{status, h.now().Add(lasts)})
	}
}

// settle ends a deletion whose time has come; ok is false if the stream is
// gone.
func (h *Handler) settle(ctx context.Context, s *streamState) (ok bool) {
	t := s.change.Load()
	if t == nil || t.status != statusDeleting || h.now().Before(t.until) {
		return true
	}
	return h.remove(ctx, s) != nil
}

// remove deletes a stream from the database unless it is gone already. The
// name may be that of a newer stream by then, which is left alone.
func (h *Handler) remove(ctx context.Context, s *streamState) error {
	s.removal.Lock()
	defer s.removal.Unlock()
	if s.gone {
		return nil
	}
	st, err := h.db.Stream(ctx, s.st.Name())
	if err == nil && st == s.st {
		err = h.db.Delete(ctx, s.st.Name())
	}
	if err != nil && !errors.Is(err, shardlog.ErrNotFound) {
		return err
	}
	s.gone = true
	h.forget(s)
	return nil
}

func (h *Handler) forget(s *streamState) {
	h.mu.Lock()
	if h.states[s.st.Name()] == s {
		delete(h.states, s.st.Name())
	}
	h.mu.Unlock()
	s.endAll()
}

// update changes the settings of a stream; control is held.
func (s *streamState) update(ctx context.Context, change func(*settings)) error {
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

// stream finds the stream that a request names, by name or by ARN.
func (c *call) stream() (*streamState, error) {
	name, arn := c.in.str("StreamName"), c.in.str("StreamARN")
	return c.streamBy(name, arn)
}

func (c *call) streamBy(name, arn string) (*streamState, error) {
	if arn != "" {
		p, ok := parseARN(arn)
		if !ok || p.consumer != "" {
			return nil, invalid("The ARN %s is not that of a stream.", arn)
		}
		if name != "" && name != p.stream {
			return nil, invalid("StreamName %s does not match the StreamARN %s.", name, arn)
		}
		c.scope, name = p.scope, p.stream
	}
	if name == "" {
		return nil, invalid("Either StreamName or StreamARN must be provided.")
	}
	c.name = name
	return c.h.find(c.ctx, c.scope, name)
}

// active finds the stream and checks that it is ACTIVE. Its control is locked
// when there is no error.
func (c *call) active() (*streamState, error) {
	s, err := c.stream()
	if err != nil {
		return nil, err
	}
	return s, c.lockActive(s)
}

func (c *call) lockActive(s *streamState) error {
	s.control.Lock()
	if status := s.status(c.h.now()); status != statusActive {
		s.control.Unlock()
		return c.notActive(status)
	}
	return nil
}

func (c *call) notActive(status string) error {
	return fault(codeInUse, "Stream %s under account %s not ACTIVE, instead in state %s", c.name, c.scope.account, status)
}

// readable finds the stream for putting and reading records, which streams
// that are being created or deleted do not allow.
func (c *call) readable(name, arn string) (*streamState, error) {
	s, err := c.streamBy(name, arn)
	if err != nil {
		return nil, err
	}
	if t := s.change.Load(); t != nil {
		if status := s.status(c.h.now()); status == statusCreating || status == statusDeleting {
			return nil, c.scope.noStream(c.name)
		}
	}
	return s, nil
}
