// Package redischeckpoint keeps the checkpoints of consumers in Redis, or what
// speaks its protocol and runs Lua scripts. It is a module of its own.
//
// # What it guarantees
//
// One Redis server executes each write as a whole, so two workers never both
// win a row. What was written survives what the server's persistence survives:
// with appendfsync always a crash of the server, with everysec all but the last
// second, without persistence nothing. Replication is asynchronous: when a
// replica takes the place of its master, writes that were acknowledged may be
// gone, and a shard may have two owners until the row shows it to one of them.
// So processing is at least once; for effects that happen exactly once, use a
// store whose rows are written in the transaction of the effects.
package redischeckpoint

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// Options say how rows are kept. The zero value of a field means its default.
type Options struct {
	// Prefix begins the names of all keys. Defaults to "shardlog:checkpoint:";
	// at most 255 bytes, without braces, which would tell a cluster where the
	// keys belong.
	Prefix string
}

// Store is a checkpoint.Store. Its methods are safe for concurrent use, also by
// other processes. They return when their context ends; a command that is under
// way then ends with the client's own timeouts.
//
// The rows of a group are fields of one hash, in one slot of a cluster; List
// reads it whole, so it sees one moment.
type Store struct {
	client redis.UniversalClient
	prefix string
}

var _ checkpoint.Store = (*Store)(nil)

// Open returns a store in client's database. It blocks until the server has
// answered. Client stays the caller's, who closes it after the consumers have
// ended. Opts may be nil. The error matches shardlog.ErrInvalid for a bad
// argument, and checkpoint.ErrUnavailable when the server does not answer.
func Open(ctx context.Context, client redis.UniversalClient, opts *Options) (*Store, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.Prefix == "" {
		o.Prefix = "shardlog:checkpoint:"
	}
	var errs []error
	if client == nil {
		errs = append(errs, &shardlog.InvalidError{Field: "Client", Value: nil, Limit: "set"})
	}
	if len(o.Prefix) > checkpoint.MaxNameLength || strings.ContainsAny(o.Prefix, "{}") {
		errs = append(errs, &shardlog.InvalidError{Field: "Prefix", Value: o.Prefix, Limit: fmt.Sprintf("at most %d bytes without braces", checkpoint.MaxNameLength)})
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	s := &Store{client: client, prefix: o.Prefix}
	if _, err := until(ctx, func() (any, error) { return nil, client.Ping(ctx).Err() }); err != nil {
		return nil, fmt.Errorf("checkpoint: open: %w", err)
	}
	return s, nil
}

// The client repeats a command whose answer was lost, so each write has a token
// that it leaves in the row: a repetition then finds its own work. That of a
// delete is kept for a minute. Versions are counted per group and outlast the
// rows, so none comes back.
//
// A row's value is its version, the token and the data, in lines. The scripts
// return the version, or one of these:
const (
	isThere   = "exists"
	isNot     = "missing"
	isAnother = "conflict:" // and the version that the row has
)

const common = `
local cur = redis.call('HGET', KEYS[1], ARGV[1])
local version, token
if cur then version, token = string.match(cur, '^(%d+)\n(%x+)\n') end
local function put()
  local v = string.format('%.0f', redis.call('INCR', KEYS[2]))
  redis.call('HSET', KEYS[1], ARGV[1], v .. '\n' .. ARGV[2] .. '\n' .. ARGV[4])
  return v
end
`

// The arguments of all: field, token, version, data.
var (
	create = redis.NewScript(common + `
if cur then
  if token == ARGV[2] then return version end
  return 'exists'
end
return put()`)
	update = redis.NewScript(common + `
if not cur then return 'missing' end
if token == ARGV[2] then return version end
if version ~= ARGV[3] then return 'conflict:' .. version end
return put()`)
	remove = redis.NewScript(common + `
if not cur then
  if redis.call('EXISTS', KEYS[3]) == 1 then return '0' end
  return 'missing'
end
if version ~= ARGV[3] then return 'conflict:' .. version end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('SET', KEYS[3], '', 'EX', 60)
return '0'`)
)

// keys are those of a group, which a cluster has in one place.
func (s *Store) keys(group, token string) []string {
	g := s.prefix + "{" + base64.RawURLEncoding.EncodeToString([]byte(group)) + "}"
	return []string{g + ":rows", g + ":version", g + ":deleted:" + token}
}

// field names a row in the hash of its group. Every character is allowed in the
// parts, so it begins with a length.
func field(k checkpoint.Key) string { return strconv.Itoa(len(k.Stream)) + ":" + k.Stream + k.Shard }

// Create implements checkpoint.Store.
func (s *Store) Create(ctx context.Context, l checkpoint.Lease) (checkpoint.Lease, error) {
	return s.write(ctx, "create", create, l)
}

// Update implements checkpoint.Store.
func (s *Store) Update(ctx context.Context, l checkpoint.Lease) (checkpoint.Lease, error) {
	return s.write(ctx, "update", update, l)
}

// Delete implements checkpoint.Store.
func (s *Store) Delete(ctx context.Context, l checkpoint.Lease) error {
	_, err := s.write(ctx, "delete", remove, checkpoint.Lease{Key: l.Key, Version: l.Version})
	return err
}

// write runs a script on a row.
func (s *Store) write(ctx context.Context, op string, script *redis.Script, l checkpoint.Lease) (checkpoint.Lease, error) {
	l = l.Clone()
	version := l.Version
	l.Version = 0 // it is kept next to the data
	data, err := checkpoint.Marshal(l)
	if err == nil {
		err = shardlog.ContextError(ctx)
	}
	if err != nil {
		return checkpoint.Lease{}, fault(op, l.Key, err)
	}
	token := fmt.Sprintf("%x", randomBytes())
	answer, err := until(ctx, func() (string, error) {
		return script.Run(ctx, s.client, s.keys(l.Group, token), field(l.Key), token, strconv.FormatUint(version, 10), data).Text()
	})
	if err != nil {
		return checkpoint.Lease{}, fault(op, l.Key, err)
	}
	switch found, conflict := strings.CutPrefix(answer, isAnother); {
	case answer == isThere:
		err = shardlog.ErrExists
	case answer == isNot:
		err = shardlog.ErrNotFound
	case conflict:
		err = fmt.Errorf("%w: version %d given, the row has %s", shardlog.ErrConflict, version, found)
	default:
		if l.Version, err = strconv.ParseUint(answer, 10, 64); err != nil {
			err = fmt.Errorf("%w: answer %q", shardlog.ErrCorrupt, answer)
		}
	}
	if err != nil {
		return checkpoint.Lease{}, fault(op, l.Key, err)
	}
	return l, nil
}

func randomBytes() []byte {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // it never fails
	return b
}

// Get implements checkpoint.Store.
func (s *Store) Get(ctx context.Context, k checkpoint.Key) (checkpoint.Lease, error) {
	err := k.Validate()
	if err == nil {
		err = shardlog.ContextError(ctx)
	}
	if err != nil {
		return checkpoint.Lease{}, fault("get", k, err)
	}
	value, err := until(ctx, func() (string, error) { return s.client.HGet(ctx, s.keys(k.Group, "")[0], field(k)).Result() })
	if errors.Is(err, redis.Nil) {
		return checkpoint.Lease{}, fault("get", k, shardlog.ErrNotFound)
	}
	if err != nil {
		return checkpoint.Lease{}, fault("get", k, err)
	}
	l, err := decode(value)
	if err != nil {
		return checkpoint.Lease{}, fault("get", k, err)
	}
	return l, nil
}

// List implements checkpoint.Store.
func (s *Store) List(ctx context.Context, group, stream string) ([]checkpoint.Lease, error) {
	k := checkpoint.Key{Group: group, Stream: stream}
	if err := shardlog.ContextError(ctx); err != nil {
		return nil, fault("list", k, err)
	}
	all, err := until(ctx, func() (map[string]string, error) { return s.client.HGetAll(ctx, s.keys(group, "")[0]).Result() })
	if err != nil {
		return nil, fault("list", k, err)
	}
	var out []checkpoint.Lease
	for f, value := range all {
		if stream != "" && !strings.HasPrefix(f, field(checkpoint.Key{Stream: stream})) {
			continue
		}
		l, err := decode(value)
		if err != nil {
			return nil, fault("list", k, err)
		}
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b checkpoint.Lease) int { return a.Key.Compare(b.Key) })
	return out, nil
}

func decode(value string) (checkpoint.Lease, error) {
	version, rest, _ := strings.Cut(value, "\n")
	_, data, ok := strings.Cut(rest, "\n")
	v, err := strconv.ParseUint(version, 10, 64)
	if err != nil || !ok {
		return checkpoint.Lease{}, fmt.Errorf("%w row: %.40q", shardlog.ErrCorrupt, value)
	}
	l, err := checkpoint.Unmarshal([]byte(data))
	l.Version = v
	return l, err
}

// until is f, or the end of ctx if that comes first: the client looks at its
// timeouts and not at the context once a command is sent. Errors of the server
// and of the way to it match checkpoint.ErrUnavailable, because the outcome is
// not known; redis.Nil stays what it is.
func until[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	var zero T
	select {
	case <-ctx.Done():
		return zero, shardlog.ContextError(ctx)
	case r := <-done:
		switch {
		case r.err == nil || errors.Is(r.err, redis.Nil):
			return r.v, r.err
		case ctx.Err() != nil:
			return zero, errors.Join(shardlog.ContextError(ctx), r.err)
		}
		return zero, fmt.Errorf("%w: %w", checkpoint.ErrUnavailable, r.err)
	}
}

func fault(op string, k checkpoint.Key, err error) error {
	return &shardlog.Error{Op: "checkpoint " + op, Stream: k.Stream, Shard: k.Shard, Err: err}
}
