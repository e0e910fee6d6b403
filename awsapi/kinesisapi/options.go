package kinesisapi

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/stream"
)

// Options say how the endpoint behaves. The zero value of each field means its
// default.
type Options struct {
	// Account is the account of requests whose access key is not itself an
	// account: 12 digits. Defaults to "000000000000".
	Account string
	// Region is the region of requests that are not signed for one. Defaults
	// to "us-east-1".
	Region string
	// Credentials maps access keys to secrets. If there are any, signatures
	// are verified and requests with others are refused. Defaults to none:
	// every signature is accepted.
	Credentials map[string]string

	// CreateTime, UpdateTime and DeleteTime are how long a stream is CREATING,
	// UPDATING and DELETING; registering and deregistering a consumer take
	// CreateTime and DeleteTime too. Default to 0: streams are ACTIVE, or
	// gone, when the call returns.
	CreateTime, UpdateTime, DeleteTime time.Duration
	// DefaultShards is the number of shards of a stream that is created
	// without saying how many. Defaults to 4, as on AWS.
	DefaultShards int
	// ShardLimit is the largest number of open shards of an account in a
	// region. Defaults to 10,000.
	ShardLimit int

	// Limits are what shards of streams created through the endpoint are
	// limited to; a stream's can be changed later with its SetLimits.
	// Defaults to none; stream.KinesisLimits are those of AWS.
	Limits stream.Limits
	// ControlLimits turns on the rates of AWS for everything but putting and
	// reading records, such as ten DescribeStream a second. Defaults to off.
	ControlLimits bool
	// IteratorLife is how long a shard iterator is valid. Defaults to 5
	// minutes.
	IteratorLife time.Duration
	// SubscriptionLife is how long a SubscribeToShard lasts. Defaults to 5
	// minutes.
	SubscriptionLife time.Duration

	// Admin serves the admin paths below /_shardlog/, except health and
	// readiness, which are always served. Whoever can reach the endpoint can
	// then delete everything. Defaults to off.
	Admin bool
	// AdminRemote answers admin requests of other machines too. Defaults to
	// off: they are refused.
	AdminRemote bool
	// MaxBodyBytes is the largest body of a request. Defaults to 16 MiB; at
	// least 64 KiB.
	MaxBodyBytes int64
	// MaxBodiesBytes bounds the bodies that are in memory at the same time, and
	// apart from them the pages of GetRecords that are larger than 1 MiB;
	// requests beyond it wait. The first 16 KiB of bodies are counted apart, up
	// to half as much again. Defaults to 16 x MaxBodyBytes.
	MaxBodiesBytes int64
	// BodyTimeout is how long a client may take to send a body, and to take a
	// large answer. Defaults to 30 s.
	BodyTimeout time.Duration
	// Logger gets our own failures. Defaults to none.
	Logger *slog.Logger
}

var accountOK = regexp.MustCompile(`^\d{12}$`)

// Validate tells whether NewHandler would take the options; o may be nil. The
// error matches shardlog.ErrInvalid and joins all faults.
func (o *Options) Validate() error {
	_, err := o.withDefaults()
	return err
}

// withDefaults returns a checked copy; the error joins all faults.
func (o *Options) withDefaults() (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	c.Credentials = maps.Clone(c.Credentials)
	setDefault(&c.Account, "000000000000")
	setDefault(&c.Region, "us-east-1")
	setDefault(&c.DefaultShards, 4)
	setDefault(&c.ShardLimit, 10_000)
	setDefault(&c.IteratorLife, 5*time.Minute)
	setDefault(&c.SubscriptionLife, 5*time.Minute)
	setDefault(&c.MaxBodyBytes, 16<<20)
	setDefault(&c.MaxBodiesBytes, 16*c.MaxBodyBytes)
	setDefault(&c.BodyTimeout, 30*time.Second)
	var errs []error
	check := func(ok bool, field string, value any, limit string) {
		if !ok {
			errs = append(errs, &shardlog.InvalidError{Field: "Options." + field, Value: value, Limit: limit})
		}
	}
	check(accountOK.MatchString(c.Account), "Account", c.Account, "12 digits")
	check(regionOK.MatchString(c.Region), "Region", c.Region, "1 to 32 of a-z 0-9 -")
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"CreateTime", c.CreateTime}, {"UpdateTime", c.UpdateTime}, {"DeleteTime", c.DeleteTime}} {
		check(d.value >= 0, d.name, d.value, "0 or more")
	}
	check(c.DefaultShards >= 1 && c.DefaultShards <= stream.MaxShards, "DefaultShards", c.DefaultShards, fmt.Sprintf("1 to %d", stream.MaxShards))
	check(c.ShardLimit >= 1, "ShardLimit", c.ShardLimit, "1 or more")
	check(c.IteratorLife > 0, "IteratorLife", c.IteratorLife, "above 0")
	check(c.SubscriptionLife > 0, "SubscriptionLife", c.SubscriptionLife, "above 0")
	check(c.MaxBodyBytes >= 64<<10 && c.MaxBodyBytes <= 1<<30, "MaxBodyBytes", c.MaxBodyBytes, "64 KiB to 1 GiB")
	check(c.MaxBodiesBytes >= c.MaxBodyBytes, "MaxBodiesBytes", c.MaxBodiesBytes, "MaxBodyBytes or more")
	check(c.BodyTimeout > 0, "BodyTimeout", c.BodyTimeout, "above 0")
	return c, errors.Join(errs...)
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}
