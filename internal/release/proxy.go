package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
)

// sum returns the checksum of files as go.sum has it: golang.org/x/mod's
// dirhash.Hash1.
func sum(files map[string][]byte) string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(h, "%x  %s\n", sha256.Sum256(files[name]), name)
	}
	return "h1:" + base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// writeProxy writes what -proxy is documented to write. The layout is that of
// https://go.dev/ref/mod#goproxy-protocol.
func (t *tree) writeProxy(dir string) error {
	for name, data := range t.files {
		if err := write(filepath.Join(dir, "tree", filepath.FromSlash(name)), data); err != nil {
			return err
		}
	}
	for _, m := range t.modules {
		var buf bytes.Buffer
		z := zip.NewWriter(&buf)
		content := t.content(m)
		for _, name := range slices.Sorted(maps.Keys(content)) {
			w, err := z.Create(name)
			if err != nil {
				return err
			}
			if _, err := w.Write(content[name]); err != nil {
				return err
			}
		}
		if err := z.Close(); err != nil {
			return err
		}
		for name, data := range map[string][]byte{
			"list":              []byte(t.version + "\n"),
			t.version + ".info": fmt.Appendf(nil, `{"Version":%q}`, t.version),
			t.version + ".mod":  t.files[path.Join(m.dir, "go.mod")],
			t.version + ".zip":  buf.Bytes(),
		} {
			if err := write(filepath.Join(dir, "proxy", filepath.FromSlash(m.path), "@v", name), data); err != nil {
				return err
			}
		}
	}
	return nil
}

func write(name string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, data, 0o644)
}
