package checkpointtest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shardlog/shardlog"
	"github.com/shardlog/shardlog/checkpoint"
)

// full has every field set to something that is not its zero value.
func full() checkpoint.Lease {
	prepared := shardlog.AfterSub(seq(7), 3)
	return checkpoint.Lease{
		Key: key("shardId-000000000000"), StreamID: "arn:aws:kinesis:eu-west-1:123456789012:stream/s 2026-07-01T12:00:00.125Z", Epoch: 7, Owner: "worker 1", Next: "worker 2", Beat: 3,
		Checkpoint: shardlog.After(seq(5)), Ended: true,
		Prepared: &prepared, PreparedState: []byte{0, 1, 0xff},
		Parents: []string{"shardId-000000000001", "shardId-000000000002"}, Children: []string{"shardId-000000000003"},
		HashStart: shardlog.NewHashKey(0, 0), HashEnd: shardlog.MaxHashKey, Switches: 9,
	}
}

func seq(n uint64) shardlog.SequenceNumber {
	return shardlog.NewSequenceNumber(1_700_000_000, 12, n, 1_700_000_001)
}

// differ names the first field in which two rows differ, "" when none does.
// Version is not compared.
func differ(a, b checkpoint.Lease) string {
	samePrepared := (a.Prepared == nil) == (b.Prepared == nil) &&
		(a.Prepared == nil || samePosition(*a.Prepared, *b.Prepared))
	for _, f := range []struct {
		name string
		same bool
	}{
		{"Key", a.Key == b.Key},
		{"StreamID", a.StreamID == b.StreamID},
		{"Epoch", a.Epoch == b.Epoch},
		{"Owner", a.Owner == b.Owner},
		{"Next", a.Next == b.Next},
		{"Beat", a.Beat == b.Beat},
		{"Checkpoint", samePosition(a.Checkpoint, b.Checkpoint)},
		{"Ended", a.Ended == b.Ended},
		{"Prepared", samePrepared},
		{"PreparedState", bytes.Equal(a.PreparedState, b.PreparedState)},
		{"Parents", slices.Equal(a.Parents, b.Parents)},
		{"Children", slices.Equal(a.Children, b.Children)},
		{"HashStart", a.HashStart == b.HashStart},
		{"HashEnd", a.HashEnd == b.HashEnd},
		{"Switches", a.Switches == b.Switches},
	} {
		if !f.same {
			return f.name
		}
	}
	return ""
}

// samePosition compares times to the millisecond, which is all that a store
// has to keep of them.
func samePosition(a, b shardlog.Position) bool {
	if a.Kind() == shardlog.KindAtTime {
		return b.Kind() == shardlog.KindAtTime && a.Time().UnixMilli() == b.Time().UnixMilli()
	}
	return a == b
}

// stored compares the row in the store with what it should be, as Get and as
// List return it.
func stored(ctx context.Context, s checkpoint.Store, want checkpoint.Lease) error {
	got, err := s.Get(ctx, want.Key)
	if err != nil {
		return fmt.Errorf("get: %w", err)
	}
	if f := differ(got, want); f != "" {
		return fmt.Errorf("get: %s differs: got %+v, want %+v", f, got, want)
	}
	rows, err := s.List(ctx, want.Group, want.Stream)
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	i := slices.IndexFunc(rows, func(l checkpoint.Lease) bool { return l.Key == want.Key })
	if i < 0 {
		return fmt.Errorf("list: no row %+v", want.Key)
	}
	if f := differ(rows[i], want); f != "" {
		return fmt.Errorf("list: %s differs: got %+v, want %+v", f, rows[i], want)
	}
	if rows[i].Version != got.Version {
		return fmt.Errorf("list has version %d, get %d", rows[i].Version, got.Version)
	}
	return nil
}

func everyField(ctx context.Context, s checkpoint.Store) error {
	want := full()
	got, err := s.Create(ctx, want)
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if f := differ(got, want); f != "" {
		return fmt.Errorf("create returned another %s: got %+v, want %+v", f, got, want)
	}
	if err := stored(ctx, s, want); err != nil {
		return fmt.Errorf("after create: %w", err)
	}
	want = checkpoint.Lease{Key: want.Key, Version: got.Version, Epoch: 8, Owner: "w", Checkpoint: shardlog.At(seq(6)), Parents: []string{"p"}}
	if got, err = s.Update(ctx, want); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	if f := differ(got, want); f != "" {
		return fmt.Errorf("update returned another %s: got %+v, want %+v", f, got, want)
	}
	if err := stored(ctx, s, want); err != nil {
		return fmt.Errorf("after update: %w", err)
	}
	// Another log numbers its records differently.
	foreign, err := shardlog.ParseSequenceNumber("21269319989741826081360214168359141376")
	if err != nil {
		return err
	}
	for _, p := range []shardlog.Position{
		shardlog.TrimHorizon(), shardlog.Latest(), shardlog.After(seq(1)), shardlog.AfterSub(seq(1), 0),
		shardlog.At(foreign), shardlog.After(foreign), shardlog.AfterSub(foreign, 7),
	} {
		got.Checkpoint = p
		if got, err = s.Update(ctx, got); err != nil {
			return fmt.Errorf("update to %v: %w", p, err)
		}
		if got.Checkpoint != p {
			return fmt.Errorf("position %v came back as %v", p, got.Checkpoint)
		}
	}
	return stored(ctx, s, got)
}

// sameKeyOtherStream: a row keeps the stream that it was last written with, and
// one that is deleted and created again does not have that of the earlier one.
func sameKeyOtherStream(ctx context.Context, s checkpoint.Store) error {
	want := checkpoint.Lease{Key: key("s"), StreamID: "é 日本/'\"\\\n", Checkpoint: shardlog.After(seq(1))}
	for _, id := range []string{want.StreamID, "2", ""} {
		want.StreamID = id
		got, err := s.Create(ctx, want)
		if err != nil {
			return fmt.Errorf("create: %w", err)
		}
		if err := stored(ctx, s, want); err != nil {
			return fmt.Errorf("of stream %q: %w", id, err)
		}
		another := got
		another.StreamID = id + "another"
		if got, err = s.Update(ctx, another); err != nil {
			return fmt.Errorf("update: %w", err)
		}
		if err := stored(ctx, s, another); err != nil {
			return fmt.Errorf("of stream %q: %w", another.StreamID, err)
		}
		if err := s.Delete(ctx, got); err != nil {
			return fmt.Errorf("delete: %w", err)
		}
	}
	return nil
}

func noAliasing(ctx context.Context, s checkpoint.Store) error {
	in, want := full(), full()
	spoil := func(l checkpoint.Lease) {
		l.Parents[0], l.Children[0], l.PreparedState[0] = "changed", "changed", 'X'
		*l.Prepared = shardlog.Latest()
	}
	out, err := s.Create(ctx, in)
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	spoil(in)
	if f := differ(out, want); f != "" {
		return fmt.Errorf("the row returned by create shares %s with the one given", f)
	}
	spoil(out)
	if err := stored(ctx, s, want); err != nil {
		return fmt.Errorf("after changing what create took and returned: %w", err)
	}
	got, err := s.Get(ctx, want.Key)
	if err != nil {
		return fmt.Errorf("get: %w", err)
	}
	spoil(got)
	rows, err := s.List(ctx, want.Group, want.Stream)
	if err != nil || len(rows) != 1 {
		return fmt.Errorf("list: %d rows, error %v", len(rows), err)
	}
	if f := differ(rows[0], want); f != "" {
		return fmt.Errorf("the row returned by get shares %s with the store", f)
	}
	spoil(rows[0])
	in = full()
	in.Version = rows[0].Version
	if out, err = s.Update(ctx, in); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	spoil(in)
	spoil(out)
	if err := stored(ctx, s, want); err != nil {
		return fmt.Errorf("after changing what update took and returned: %w", err)
	}
	return nil
}

func clearing(ctx context.Context, s checkpoint.Store) error {
	l, err := s.Create(ctx, full())
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	want := checkpoint.Lease{Key: l.Key, Version: l.Version}
	if _, err := s.Update(ctx, want); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	return stored(ctx, s, want)
}

func largeState(ctx context.Context, s checkpoint.Store) error {
	want := full()
	want.PreparedState = bytes.Repeat([]byte{0xf3, 0x00, 0x22, '\n'}, checkpoint.MaxPreparedState/4)
	if _, err := s.Create(ctx, want); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	return stored(ctx, s, want)
}

func times(ctx context.Context, s checkpoint.Store) error {
	for i, t := range []time.Time{
		time.Date(2028, 2, 29, 23, 59, 59, 987e6, time.UTC),
		time.Date(2026, 7, 1, 0, 0, 0, 1e6, time.FixedZone("", 5*3600)),
		time.UnixMilli(0), time.UnixMilli(-1), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC),
	} {
		want := checkpoint.Lease{Key: key(fmt.Sprint(i)), Checkpoint: shardlog.AtTime(t)}
		if _, err := s.Create(ctx, want); err != nil {
			return fmt.Errorf("create: %w", err)
		}
		if err := stored(ctx, s, want); err != nil {
			return fmt.Errorf("%v: %w", t, err)
		}
	}
	return nil
}

func largeCounters(ctx context.Context, s checkpoint.Store) error {
	want := checkpoint.Lease{Key: key("s"), Epoch: 1<<63 + 1, Beat: 1<<53 + 1, Switches: 1<<64 - 1}
	if _, err := s.Create(ctx, want); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	return stored(ctx, s, want)
}

func awkwardNames(ctx context.Context, s checkpoint.Store) error {
	long := strings.Repeat("é", checkpoint.MaxNameLength/2)
	keys := []checkpoint.Key{
		{Group: "a/b", Stream: "c", Shard: "d"}, {Group: "a", Stream: "b/c", Shard: "d"}, {Group: "a", Stream: "b", Shard: "c/d"},
		{Group: "a:b", Stream: "c", Shard: "d"}, {Group: "a", Stream: "b:c", Shard: "d"},
		{Group: "a\x00b", Stream: "c", Shard: "d"}, {Group: "a", Stream: "b\x00c", Shard: "d"}, {Group: "a", Stream: "b", Shard: "\x00"},
		{Group: "a%2Fb", Stream: "c", Shard: "d"}, {Group: "a", Stream: "b", Shard: "%"}, {Group: "a", Stream: "b", Shard: "_"},
		{Group: "A", Stream: "b", Shard: "c"}, {Group: "a", Stream: "b", Shard: "c"}, {Group: "a", Stream: "b", Shard: "c "},
		{Group: "ü", Stream: "日本", Shard: "'; DROP TABLE x;--"}, {Group: "u\u0308", Stream: "日本", Shard: `"\`},
		{Group: "a", Stream: "b", Shard: "\U0010ffff"}, {Group: "*", Stream: "..", Shard: "\n"},
		{Group: long, Stream: long, Shard: long}, {Group: long, Stream: long, Shard: long + "x"},
	}
	for i, k := range keys {
		if _, err := s.Create(ctx, checkpoint.Lease{Key: k, Owner: fmt.Sprint(i), Parents: []string{k.Shard}}); err != nil {
			return fmt.Errorf("create %q: %w", k, err)
		}
	}
	for i, k := range keys {
		if err := stored(ctx, s, checkpoint.Lease{Key: k, Owner: fmt.Sprint(i), Parents: []string{k.Shard}}); err != nil {
			return fmt.Errorf("%q: %w", k, err)
		}
		rows, err := s.List(ctx, k.Group, k.Stream)
		if err != nil {
			return fmt.Errorf("list %q: %w", k, err)
		}
		for _, l := range rows {
			if l.Group != k.Group || l.Stream != k.Stream {
				return fmt.Errorf("list of %q %q has the row %q", k.Group, k.Stream, l.Key)
			}
		}
	}
	return nil
}

func invalidRows(ctx context.Context, s checkpoint.Store) error {
	long := strings.Repeat("x", checkpoint.MaxNameLength+1)
	for _, k := range []checkpoint.Key{
		{Stream: "s", Shard: "s"}, {Group: "g", Shard: "s"}, {Group: "g", Stream: "s"},
		{Group: long, Stream: "s", Shard: "s"}, {Group: "g", Stream: "s", Shard: long}, {Group: "g", Stream: "s\xff", Shard: "s"},
	} {
		_, err := s.Create(ctx, checkpoint.Lease{Key: k})
		if err := wantError(fmt.Sprintf("create of key %q", k), err, shardlog.ErrInvalid); err != nil {
			return err
		}
		_, err = s.Get(ctx, k)
		if err := wantError(fmt.Sprintf("get of key %q", k), err, shardlog.ErrInvalid); err != nil {
			return err
		}
	}
	l, err := s.Create(ctx, full())
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	for _, change := range []func(*checkpoint.Lease){
		func(l *checkpoint.Lease) { l.PreparedState = make([]byte, checkpoint.MaxPreparedState+1) },
		func(l *checkpoint.Lease) { l.Checkpoint = shardlog.After(shardlog.SequenceNumber{}) },
		func(l *checkpoint.Lease) { l.Owner = long },
		func(l *checkpoint.Lease) { l.StreamID = long },
	} {
		bad := l.Clone()
		change(&bad)
		_, err := s.Update(ctx, bad)
		if err := wantError("update to an invalid row", err, shardlog.ErrInvalid); err != nil {
			return err
		}
	}
	return stored(ctx, s, full())
}
