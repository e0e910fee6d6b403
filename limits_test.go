package shardlog_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

// A nil *InvalidError in an error would not be nil.
func TestValidRecordHasNoError(t *testing.T) {
	for _, r := range []shardlog.Record{
		{PartitionKey: "k"},
		{PartitionKey: strings.Repeat("é", shardlog.MaxPartitionKeyLength), Headers: make([]shardlog.Header, shardlog.MaxHeaders)},
		{PartitionKey: "k", Data: make([]byte, 999), DedupID: strings.Repeat("d", shardlog.MaxDedupIDLength)},
	} {
		require.NoError(t, r.Validate(1000))
	}
	require.NoError(t, shardlog.ValidateProducerID("p"))
	require.NoError(t, (&shardlog.ReadRequest{}).Validate())
	require.NoError(t, (&shardlog.ReadRequest{MaxRecords: shardlog.MaxPageRecords, MaxBytes: shardlog.MaxPageBytes, Wait: time.Hour}).Validate())
}

func TestInvalidNamesFieldAndLimit(t *testing.T) {
	long := strings.Repeat("x", 257)
	record := func(r shardlog.Record) error { return r.Validate(1000) }
	read := func(r shardlog.ReadRequest) error { return r.Validate() }
	for _, c := range []struct {
		err          error
		field, limit string
	}{
		{record(shardlog.Record{}), "PartitionKey", "at least 1 character"},
		{record(shardlog.Record{PartitionKey: "\xff"}), "PartitionKey", "valid UTF-8"},
		{record(shardlog.Record{PartitionKey: long}), "PartitionKey", "at most 256 characters"},
		{record(shardlog.Record{PartitionKey: "k", Headers: make([]shardlog.Header, 257)}), "Headers", "at most 256"},
		{record(shardlog.Record{PartitionKey: "k", Data: make([]byte, 1000)}), "Data", "at most 1000 bytes"},
		{record(shardlog.Record{PartitionKey: "k", Headers: []shardlog.Header{{Key: "h", Value: strings.Repeat("v", 999)}}}), "Data", "at most 1000 bytes"},
		{record(shardlog.Record{PartitionKey: "k", DedupID: long}), "DedupID", "at most 256 bytes"},
		{record(shardlog.Record{PartitionKey: "k", DedupID: "\xff"}), "DedupID", "valid UTF-8"},
		{shardlog.ValidateProducerID(""), "Producer", "at least 1 byte"},
		{shardlog.ValidateProducerID(long), "Producer", "at most 256 bytes"},
		{read(shardlog.ReadRequest{MaxRecords: -1}), "MaxRecords", "0 to 10000"},
		{read(shardlog.ReadRequest{MaxRecords: 10_001}), "MaxRecords", "0 to 10000"},
		{read(shardlog.ReadRequest{MaxBytes: -1}), "MaxBytes", "0 to 10485760"},
		{read(shardlog.ReadRequest{MaxBytes: 10<<20 + 1}), "MaxBytes", "0 to 10485760"},
		{read(shardlog.ReadRequest{Wait: -1}), "Wait", "0 or more"},
	} {
		var invalid *shardlog.InvalidError
		require.ErrorAs(t, c.err, &invalid, "%s: %s", c.field, c.limit)
		require.ErrorIs(t, c.err, shardlog.ErrInvalid)
		require.Equal(t, [2]string{c.field, c.limit}, [2]string{invalid.Field, invalid.Limit})
	}
}

func TestValidateDoesNotAllocate(t *testing.T) {
	r := shardlog.Record{PartitionKey: "key", Data: make([]byte, 100), DedupID: "id"}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if err := r.Validate(1000); err != nil {
			panic(err)
		}
	}))
}

func TestShardID(t *testing.T) {
	for _, n := range []uint32{0, 1, 9, 10, 4711, math.MaxInt32, math.MaxUint32} {
		require.Equal(t, fmt.Sprintf("shardId-%0*d", 12, n), shardlog.ShardID(n))
	}
}
