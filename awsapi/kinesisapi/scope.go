package kinesisapi

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// scope is whose streams a request is about.
type scope struct {
	account, region string
}

var regionOK = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// partition is the part of AWS that a region belongs to.
func (sc scope) partition() string {
	switch {
	case strings.HasPrefix(sc.region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(sc.region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

func (sc scope) arn(name string) string {
	return "arn:" + sc.partition() + ":kinesis:" + sc.region + ":" + sc.account + ":stream/" + name
}

func (sc scope) consumerARN(name string, c *consumer) string {
	return fmt.Sprintf("%s/consumer/%s:%d", sc.arn(name), c.Name, c.Created/1000)
}

// scopeOf finds the account and the region of a credential.
func (h *Handler) scopeOf(credential string) scope {
	sc := scope{h.opts.Account, h.opts.Region}
	parts := strings.Split(credential, "/")
	if accountOK.MatchString(parts[0]) {
		sc.account = parts[0]
	}
	if len(parts) >= 3 && regionOK.MatchString(parts[2]) {
		sc.region = parts[2]
	}
	return sc
}

// parsed is an ARN of a stream or of a consumer of one.
type parsed struct {
	scope
	stream   string
	consumer string // name and creation, name:123; "" for a stream
}

// parseARN reads an ARN that has passed the model's pattern.
func parseARN(arn string) (parsed, bool) {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || parts[2] != "kinesis" || !accountOK.MatchString(parts[4]) {
		return parsed{}, false
	}
	name, ok := strings.CutPrefix(parts[5], "stream/")
	if !ok {
		return parsed{}, false
	}
	name, consumer, isConsumer := strings.Cut(name, "/consumer/")
	if !shapeStreamName.pattern.MatchString(name) || isConsumer && consumer == "" {
		return parsed{}, false
	}
	return parsed{scope: scope{parts[4], parts[3]}, stream: name, consumer: consumer}, true
}

// identity says in a stream's attributes who owns it under which name. A
// stream without one was made in the process, and is everybody's.
type identity struct {
	Account string `json:"account"`
	Region  string `json:"region"`
	Name    string `json:"name"`
}

const attrIdentity = "kinesis"

// mangled is the name that a stream has in the database when its own is taken
// by another account or region.
func (sc scope) mangled(name string) string {
	full := sc.account + "." + sc.region + "." + name
	if len(full) <= 128 {
		return full
	}
	var sum [8]byte
	for i, v := 0, xxhash.Sum64String(full); i < 8; i++ {
		sum[i] = byte(v >> (8 * i))
	}
	return full[:111] + "." + hex.EncodeToString(sum[:])
}

var mangledName = regexp.MustCompile(`^\d{12}\.[a-z0-9-]{1,32}\.`)

func looksMangled(name string) bool { return mangledName.MatchString(name) }

// find returns the stream with a name in a scope. The error matches
// shardlog.ErrNotFound or is that of the database.
func (h *Handler) find(ctx context.Context, sc scope, name string) (*streamState, error) {
	for _, stored := range []string{name, sc.mangled(name)} {
		st, err := h.db.Stream(ctx, stored)
		if errors.Is(err, shardlog.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if s := h.stateOf(st); s.visible(sc, name) && h.settle(ctx, s) {
			return s, nil
		}
	}
	return nil, sc.noStream(name)
}

// stateOf returns what the handler keeps about a stream of the database.
func (h *Handler) stateOf(st *stream.Stream) *streamState {
	h.mu.RLock()
	s := h.states[st.Name()]
	h.mu.RUnlock()
	if s != nil && s.st == st {
		return s
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if s = h.states[st.Name()]; s != nil && s.st == st {
		return s
	}
	s = newState(st)
	h.states[st.Name()] = s
	return s
}

func readIdentity(st *stream.Stream) (id identity) {
	if text := st.Attribute(attrIdentity); text != "" {
		if err := json.Unmarshal([]byte(text), &id); err == nil {
			return id
		}
	}
	return identity{Name: st.Name()}
}

func (s *streamState) visible(sc scope, name string) bool {
	id := &s.id
	return id.Name == name && (id.Account == "" || id.Account == sc.account && id.Region == sc.region)
}
