package kinesisapi

import (
	"cmp"
	"context"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/internal/awswire"
	"github.com/shardlog/shardlog/stream"
)

// adminLimits sets the limits of one stream.
func (svc *service) adminLimits(ctx context.Context, env *awswire.Env, decode func(any) error) error {
	var v struct {
		Account, Region, Stream string
		Limits                  stream.Limits
		Kinesis                 bool // those of AWS, in place of Limits
	}
	if err := decode(&v); err != nil {
		return err
	}
	sc := awswire.Scope{Account: cmp.Or(v.Account, env.Scope.Account), Region: cmp.Or(v.Region, env.Scope.Region)}
	found, err := svc.streams.find(ctx, sc, v.Stream, &env.Clock)
	if isNotFound(err) {
		return &shardlog.Error{Op: "limits", Stream: v.Stream, Err: shardlog.ErrNotFound}
	}
	if err != nil {
		return err
	}
	if v.Kinesis {
		v.Limits = stream.KinesisLimits()
	}
	return found.st.SetLimits(ctx, v.Limits)
}
