package awsapi

import (
	"cmp"
	"errors"
	"log/slog"
	"maps"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
)

// Options say how an endpoint behaves, whatever it serves. The zero value of
// each field means its default.
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
	// separately from them the large answers, such as pages of GetRecords above
	// 1 MiB; requests beyond it wait. The first 16 KiB of bodies are counted
	// separately, up to half as much again. Defaults to 16 x MaxBodyBytes.
	MaxBodiesBytes int64
	// BodyTimeout is how long a client may take to send a body, and to take a
	// large answer. Defaults to 30 s.
	BodyTimeout time.Duration
	// Logger gets our own failures. Defaults to none.
	Logger *slog.Logger
}

// Validate reports whether New would take the options; o may be nil. The error
// matches shardlog.ErrInvalid and joins all faults.
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
	c.Account = cmp.Or(c.Account, "000000000000")
	c.Region = cmp.Or(c.Region, "us-east-1")
	c.MaxBodyBytes = cmp.Or(c.MaxBodyBytes, 16<<20)
	c.MaxBodiesBytes = cmp.Or(c.MaxBodiesBytes, 16*c.MaxBodyBytes)
	c.BodyTimeout = cmp.Or(c.BodyTimeout, 30*time.Second)
	var errs []error
	check := func(ok bool, field string, value any, limit string) {
		if !ok {
			errs = append(errs, &shardlog.InvalidError{Field: "Options." + field, Value: value, Limit: limit})
		}
	}
	check(awswire.ValidAccount(c.Account), "Account", c.Account, "12 digits")
	check(awswire.ValidRegion(c.Region), "Region", c.Region, "1 to 32 of a-z 0-9 -")
	check(c.MaxBodyBytes >= 64<<10 && c.MaxBodyBytes <= 1<<30, "MaxBodyBytes", c.MaxBodyBytes, "64 KiB to 1 GiB")
	check(c.MaxBodiesBytes >= c.MaxBodyBytes, "MaxBodiesBytes", c.MaxBodiesBytes, "MaxBodyBytes or more")
	check(c.BodyTimeout > 0, "BodyTimeout", c.BodyTimeout, "above 0")
	if _, err := newOrigins(c.AllowOrigins); err != nil {
		errs = append(errs, err)
	}
	return c, errors.Join(errs...)
}
