package patterns

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/shardlog/shardlog"
)

//go:embed workloads/*.yaml
var readyFiles embed.FS

// Ready returns the names of the built-in workloads, sorted.
func Ready() []string {
	entries, err := readyFiles.ReadDir("workloads")
	if err != nil {
		return nil // the folder is embedded, so it exists
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	slices.Sort(names)
	return names
}

// Text returns the YAML of the built-in workload with the name. The error is a
// *shardlog.InvalidError if there is none.
func Text(name string) (string, error) {
	data, err := readyFiles.ReadFile("workloads/" + name + ".yaml")
	if err != nil {
		return "", &shardlog.InvalidError{Field: "workload", Value: name, Limit: "one of " + strings.Join(Ready(), ", ")}
	}
	return string(data), nil
}

// Find returns the built-in workload with the name, without its defaults filled
// in. The error is that of Text.
func Find(name string) (Workload, error) {
	text, err := Text(name)
	if err != nil {
		return Workload{}, err
	}
	return Parse([]byte(text))
}

// Parse reads a workload from YAML or JSON, which is a subset of YAML. An unknown
// field is an error. Defaults are not filled in.
func Parse(data []byte) (Workload, error) {
	var w Workload
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(&w); err != nil && !errors.Is(err, io.EOF) {
		return Workload{}, fmt.Errorf("%w: workload: %w", shardlog.ErrInvalid, err)
	}
	if err := d.Decode(new(Workload)); !errors.Is(err, io.EOF) {
		return Workload{}, fmt.Errorf("%w: workload: more than one document", shardlog.ErrInvalid)
	}
	return w, nil
}
