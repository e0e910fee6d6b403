package stream

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog"
)

// fieldComments returns the comments of the fields of a struct in a file.
func fieldComments(t *testing.T, file, name string) map[string]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	require.NoError(t, err)
	out := map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || spec.Name.Name != name {
			return true
		}
		for _, field := range spec.Type.(*ast.StructType).Fields.List {
			for _, id := range field.Names {
				out[id.Name] = strings.Join(strings.Fields(field.Doc.Text()), " ")
			}
		}
		return false
	})
	require.NotEmpty(t, out)
	return out
}

func TestDocumentedDefaultsOfOptions(t *testing.T) {
	o, err := (*Options)(nil).withDefaults("dir")
	require.NoError(t, err)
	doc := fieldComments(t, "options.go", "Options")
	for _, c := range []struct {
		field     string
		got, want any
		text      string
	}{
		{"Durability", o.Durability, SyncAlways, "Defaults to SyncAlways."},
		{"SyncInterval", o.SyncInterval, 100 * time.Millisecond, "Defaults to 100 ms;"},
		{"EncryptionKey", o.EncryptionKey, []byte(nil), "Defaults to none."},
		{"MinFreeBytes", o.MinFreeBytes, 4*o.ValueLogFileBytes + 64<<20, "Defaults to 4 x ValueLogFileBytes + 64 MiB."},
		{"ValueLogFileBytes", o.ValueLogFileBytes, int64(64 << 20), "Defaults to 64 MiB;"},
		{"TailBytes", o.TailBytes, int64(8 << 20), "Defaults to 8 MiB;"},
		{"CacheBytes", o.CacheBytes, int64(8 << 20), "Defaults to 8 MiB;"},
	} {
		require.Equal(t, c.want, c.got, c.field)
		require.Contains(t, doc[c.field], c.text, c.field)
	}
	require.Nil(t, o.Logger)
	require.Contains(t, doc["Logger"], "Defaults to none.")
	key := []byte("0123456789abcdef")
	o, err = (&Options{EncryptionKey: key}).withDefaults("dir")
	require.NoError(t, err)
	key[0] = 'x'
	require.Equal(t, "0123456789abcdef", string(o.EncryptionKey), "the key is copied")
}

func TestDocumentedDefaultsOfConfig(t *testing.T) {
	st := create(t, openMem(t), "s", Config{})
	i := st.Info()
	doc := fieldComments(t, "config.go", "Config")
	for _, c := range []struct {
		field     string
		got, want any
		text      string
	}{
		{"Shards", i.OpenShards, 1, "Defaults to 1;"},
		{"Retention", i.Retention, 24 * time.Hour, "Defaults to DefaultRetention;"},
		{"RetentionBytes", i.RetentionBytes, int64(0), "Defaults to 0, no bound;"},
		{"MaxRecordSize", i.MaxRecordSize, shardlog.DefaultRecordSize, "Defaults to shardlog.DefaultRecordSize;"},
		{"Compression", i.Compression, NoCompression, "Defaults to NoCompression."},
		{"Hash", i.Hash, MD5, "Defaults to MD5."},
		{"Limits", i.Limits, Limits{}, "Defaults to none;"},
		{"Tags", len(i.Tags), 0, "At most MaxTags."},
	} {
		require.Equal(t, c.want, c.got, c.field)
		require.Contains(t, doc[c.field], c.text, c.field)
	}
	require.Equal(t, DefaultRetention, 24*time.Hour)
	require.Equal(t, Limits{WriteRecords: 1000, WriteBytes: 1 << 20, ReadBytes: 2 << 20, ReadCalls: 5}, KinesisLimits())
}

func TestDurabilityNames(t *testing.T) {
	require.Equal(t, "always", SyncAlways.String())
	require.Equal(t, "interval", SyncInterval.String())
	require.Equal(t, "never", SyncNever.String())
	require.Equal(t, "Durability(9)", Durability(9).String())
}
