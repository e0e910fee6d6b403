package kinesisapi

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/awsapi"
	"github.com/shardlog/shardlog/stream"
)

// Options say how the endpoint behaves. The zero value of each field means its
// default.
type Options struct {
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

	// The fields below are about the endpoint, whatever it serves, and are the
	// same as in awsapi.Options. Service refuses them: its endpoint has its own.

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

	// AllowOrigins are the pages whose requests are answered where signatures are
	// not verified: origins such as "http://localhost:3000", or "*" for all.
	// Without credentials a page that somebody visits could otherwise do
	// everything. Defaults to none. With Credentials all pages are answered, as
	// AWS does: they need a key.
	AllowOrigins []string

	// Admin serves the admin paths below /_shardlog/, except health and
	// readiness, which are always served. Anyone who can reach the endpoint can
	// then delete everything. Defaults to off.
	Admin bool
	// AdminRemote answers admin requests of other machines too. Defaults to
	// off: they are refused.
	AdminRemote bool
	// MaxBodyBytes is the largest body of a request. Defaults to 16 MiB; at
	// least 64 KiB.
	MaxBodyBytes int64
	// MaxBodiesBytes bounds the bodies that are in memory at the same time, and
	// separately from them the pages of GetRecords that are larger than 1 MiB;
	// requests beyond it wait. The first 16 KiB of bodies are counted separately, up
	// to half as much again. Defaults to 16 x MaxBodyBytes.
	MaxBodiesBytes int64
	// BodyTimeout is how long a client may take to send a body, and to take a
	// large answer. Defaults to 30 s.
	BodyTimeout time.Duration
	// Logger gets our own failures. Defaults to none.
	Logger *slog.Logger
}

// Validate reports whether NewHandler would take the options; o may be nil. The
// error matches shardlog.ErrInvalid and joins all faults.
func (o *Options) Validate() error {
	_, err := o.withDefaults()
	return errors.Join(err, o.endpoint().Validate())
}

// endpoint returns those options that are about the endpoint, whatever it
// serves.
func (o *Options) endpoint() *awsapi.Options {
	if o == nil {
		return nil
	}
	return &awsapi.Options{
		Account: o.Account, Region: o.Region, Credentials: o.Credentials, AllowOrigins: o.AllowOrigins, Admin: o.Admin, AdminRemote: o.AdminRemote,
		MaxBodyBytes: o.MaxBodyBytes, MaxBodiesBytes: o.MaxBodiesBytes, BodyTimeout: o.BodyTimeout, Logger: o.Logger,
	}
}

// forEndpoint reports whether any option is about the endpoint.
func (o *Options) forEndpoint() bool {
	return o.Account != "" || o.Region != "" || len(o.Credentials) > 0 || len(o.AllowOrigins) > 0 || o.Admin || o.AdminRemote ||
		o.MaxBodyBytes != 0 || o.MaxBodiesBytes != 0 || o.BodyTimeout != 0 || o.Logger != nil
}

// withDefaults returns a copy in which those options that are about Kinesis are
// checked; the error joins all faults.
func (o *Options) withDefaults() (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	c.DefaultShards = cmp.Or(c.DefaultShards, 4)
	c.ShardLimit = cmp.Or(c.ShardLimit, 10_000)
	c.IteratorLife = cmp.Or(c.IteratorLife, 5*time.Minute)
	c.SubscriptionLife = cmp.Or(c.SubscriptionLife, 5*time.Minute)
	var errs []error
	check := func(ok bool, field string, value any, limit string) {
		if !ok {
			errs = append(errs, &shardlog.InvalidError{Field: "Options." + field, Value: value, Limit: limit})
		}
	}
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
	return c, errors.Join(errs...)
}
