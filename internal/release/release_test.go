package main

import (
	"archive/zip"
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// sample writes a tree of four modules: app requires lib, and both the main
// one. What git does with it is tested by .ci/run.
func sample(t *testing.T, more map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{
		"LICENSE":      "free\n",
		"go.mod":       "module " + self + "\n\ngo 1.25.0\n",
		"go.work":      "use (\n\t.\n\t./a\n)\n\nreplace " + self + " v0.1.0 => ./\n",
		"log.go":       "package log\n",
		"vendor/x.go":  "package x\n",
		"deep/deep.go": "package deep\n",
		"app/go.mod":   "module " + self + "/app\n\nrequire (\n\t" + self + " v0.1.0\n\t" + self + "/lib v0.1.0\n\tgithub.com/zoo/z v1.0.0\n)\n",
		"app/go.sum":   "github.com/aaa/a v1.10.0 h1:x\n" + self + " v0.0.9 h1:old\n" + self + " v0.0.9/go.mod h1:old\ngithub.com/zoo/z v1.0.0 h1:z\n",
		"app/main.go":  "package main\n",
		"app/LICENSE":  "its own\n",
		"lib/go.mod":   "module " + self + "/lib\n\nrequire " + self + " v0.1.0\n",
		"lib/lib.go":   "package lib\n",
		"alone/go.mod": "module " + self + "/alone\n",
	}
	maps.Copy(files, more)
	for name, data := range files {
		require.NoError(t, write(filepath.Join(dir, filepath.FromSlash(name)), []byte(data)))
	}
	return dir
}

func loadSample(t *testing.T) *tree {
	t.Helper()
	tr, err := load(sample(t, nil))
	require.NoError(t, err)
	return tr
}

func TestModulesComeAfterWhatTheyRequire(t *testing.T) {
	var dirs []string
	for _, m := range loadSample(t).modules {
		dirs = append(dirs, m.dir)
	}
	require.Equal(t, []string{".", "alone", "lib", "app"}, dirs)
}

func TestTreesThatAreRefused(t *testing.T) {
	for want, more := range map[string]map[string]string{
		"/lib requires itself": {"lib/go.mod": "module " + self + "/lib\n\nrequire " + self + "/lib v0.1.0\n"},
		"/app requires itself": {"lib/go.mod": "module " + self + "/lib\n\nrequire " + self + "/app v0.1.0\n"},
		"not in the tree":      {"lib/go.mod": "module " + self + "/lib\n\nrequire " + self + "/gone v0.1.0\n"},
		"which is another":     {"lib/go.mod": "module " + self + "/other\n"},
		"names no module":      {"lib/go.mod": "go 1.25.0\n"},
		"example.com/x, which": {"go.mod": "module example.com/x\n"},
	} {
		_, err := load(sample(t, more))
		require.ErrorContains(t, err, want)
	}
	_, err := load(t.TempDir())
	require.ErrorContains(t, err, "there is no go.mod")
}

func TestVersions(t *testing.T) {
	for _, v := range []string{"v0.1.0", "v1.20.3", "v0.2.0-rc.1", loadSample(t).unreleased()} {
		require.NoError(t, checkVersion(v))
	}
	for _, v := range []string{"", "0.1.0", "v1", "v1.2", "v2.0.0", "v0.01.0", "v0.1.0 ", "v0.1.0+x", "vx"} {
		require.ErrorContains(t, checkVersion(v), "is not a version", v)
	}
}

func TestSetVersion(t *testing.T) {
	tr := loadSample(t)
	tr.setVersion("v0.2.0")
	require.Equal(t, "module "+self+"/app\n\nrequire (\n\t"+self+" v0.2.0\n\t"+self+"/lib v0.2.0\n\tgithub.com/zoo/z v1.0.0\n)\n", string(tr.files["app/go.mod"]))
	require.Contains(t, string(tr.files["go.work"]), "replace "+self+" v0.2.0 => ./\n")
	root, lib := tr.modules[0], tr.modules[2]
	require.Equal(t, "github.com/aaa/a v1.10.0 h1:x\n"+
		self+" v0.2.0 "+root.sum+"\n"+self+" v0.2.0/go.mod "+root.mod+"\n"+
		self+"/lib v0.2.0 "+lib.sum+"\n"+self+"/lib v0.2.0/go.mod "+lib.mod+"\n"+
		"github.com/zoo/z v1.0.0 h1:z\n", string(tr.files["app/go.sum"]))
	require.NotContains(t, tr.files, "alone/go.sum", "nothing is required, so there is nothing to check")
	require.NotContains(t, tr.files, "go.sum")
}

// TestSum has a checksum that go.sum files all over the world have.
func TestSum(t *testing.T) {
	require.Equal(t, "h1:iKH77koFhYxTK1pcRnkKkqfTogsbg7gZNVY4sRDYZ/4=",
		sum(map[string][]byte{"go.mod": []byte("module github.com/pmezard/go-difflib\n")}))
}

func TestProxy(t *testing.T) {
	out := t.TempDir()
	var printed bytes.Buffer
	require.NoError(t, writeProxy(sample(t, nil), out, "v0.3.0", &printed))
	require.Equal(t, "v0.3.0\n", printed.String())
	at := func(module, name string) string {
		return filepath.Join(out, "proxy", filepath.FromSlash(module), "@v", name)
	}
	content := func(module string) (names []string) {
		z, err := zip.OpenReader(at(module, "v0.3.0.zip"))
		require.NoError(t, err)
		defer z.Close()
		for _, f := range z.File {
			rest, ok := strings.CutPrefix(f.Name, module+"@v0.3.0/")
			require.True(t, ok, f.Name)
			names = append(names, rest)
		}
		return names
	}
	require.Equal(t, []string{"LICENSE", "deep/deep.go", "go.mod", "go.work", "log.go"}, content(self), "no vendored files, nothing of other modules")
	require.Equal(t, []string{"LICENSE", "go.mod", "go.sum", "main.go"}, content(self+"/app"))
	require.Equal(t, []string{"LICENSE", "go.mod", "go.sum", "lib.go"}, content(self+"/lib"), "with the license of the tree")
	for name, want := range map[string]string{"list": "v0.3.0\n", "v0.3.0.info": `{"Version":"v0.3.0"}`, "v0.3.0.mod": "module " + self + "/lib\n\nrequire " + self + " v0.3.0\n"} {
		data, err := os.ReadFile(at(self+"/lib", name))
		require.NoError(t, err)
		require.Equal(t, want, string(data))
	}
	data, err := os.ReadFile(filepath.Join(out, "tree", "app", "LICENSE"))
	require.NoError(t, err)
	require.Equal(t, "its own\n", string(data))
	require.ErrorContains(t, writeProxy(sample(t, nil), out, "v2.0.0", &printed), "is not a version")
}

func TestUnreleasedVersionsDependOnFiles(t *testing.T) {
	tr := loadSample(t)
	v := tr.unreleased()
	require.Equal(t, v, loadSample(t).unreleased())
	tr.files["log.go"] = append(tr.files["log.go"], '\n')
	require.NotEqual(t, v, tr.unreleased())
}

func TestTidyKeepsOurVersions(t *testing.T) {
	tr := loadSample(t)
	before := maps.Clone(tr.files)
	tr.setVersion("v0.9.0")
	require.Equal(t, string(before["app/go.mod"]), string(restoreVersion(tr.files["app/go.mod"], before["app/go.mod"])))
	require.Equal(t, string(before["app/go.sum"]), string(restoreSums(tr.files["app/go.sum"], before["app/go.sum"])))
	require.Equal(t, string(before["alone/go.mod"]), string(restoreVersion(tr.files["alone/go.mod"], before["alone/go.mod"])))
	require.Empty(t, restoreSums(tr.files["lib/go.sum"], nil))
}

func TestTags(t *testing.T) {
	var tags []string
	for _, m := range loadSample(t).modules {
		tags = append(tags, m.tag("v0.1.0"))
	}
	slices.Sort(tags)
	require.Equal(t, []string{"alone/v0.1.0", "app/v0.1.0", "lib/v0.1.0", "v0.1.0"}, tags)
}
