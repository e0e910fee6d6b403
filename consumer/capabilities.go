package consumer

import (
	"errors"
	"fmt"

	"github.com/shardlog/shardlog"
)

// checkCapabilities returns an error that matches shardlog.ErrUnsupported for
// each option that asks for what the source cannot do.
func (o *Options) checkCapabilities(src shardlog.Source) error {
	if src == nil {
		return nil // which is a fault of its own
	}
	caps := shardlog.CapabilitiesOf(src)
	_, dedicated := src.(shardlog.DedicatedReader)
	var errs []error
	for _, d := range []struct {
		asked, has    bool
		option, needs string
	}{
		{o.FanOut, dedicated, "FanOut", "a source that is a shardlog.DedicatedReader"},
		{o.WholeAggregates, caps.KeyRanges, "WholeAggregates", "a source that places records by the listed ranges of hash keys (KeyRanges)"},
		{o.Start.Kind() == shardlog.KindAtTime, caps.TimeSeek != shardlog.TimeSeekNone, "Start at a time", "a source that reads from a time (TimeSeek)"},
		{true, caps.Groups == shardlog.GroupsLibrary, "Group", "a source whose groups share shards by leases (GroupsLibrary)"},
	} {
		if d.asked && !d.has {
			errs = append(errs, fmt.Errorf("%w: %s needs %s; this one is a %T", shardlog.ErrUnsupported, d.option, d.needs, src))
		}
	}
	return errors.Join(errs...)
}

// checkSeek refuses a position that the source cannot find.
func checkSeek(src shardlog.Source, pos shardlog.Position) error {
	if pos.Kind() == shardlog.KindAtTime && shardlog.CapabilitiesOf(src).TimeSeek == shardlog.TimeSeekNone {
		return fmt.Errorf("%w: a position at a time needs a source that reads from a time (TimeSeek)", shardlog.ErrUnsupported)
	}
	return nil
}
