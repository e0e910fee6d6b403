package lint

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	exampleLink     = regexp.MustCompile(`\]\(\.\./([^)]*_test\.go)\)`)
	exampleFunction = regexp.MustCompile(`(?m)((?:^//[^\n]*\n)*)^func Example\w*\(`)
	featureRow      = regexp.MustCompile(`(?m)^\| (?:\[)?\*\*([^*]+)\*\*(?:\]\(([^)]*)\))? \|`)
)

// anchor is the place of a heading, as pages on GitHub have it.
func anchor(heading string) string {
	return strings.ReplaceAll(strings.ToLower(heading), " ", "-")
}

// sections returns the text below each heading of the second level.
func sections(document string) map[string]string {
	out := map[string]string{}
	for _, part := range strings.Split("\n"+document, "\n## ")[1:] {
		heading, text, _ := strings.Cut(part, "\n")
		out[heading] = text
	}
	return out
}

// TestFeaturesHaveExamples checks that each row of README.md's table of features
// leads to a section of docs/EXAMPLES.md, and that the section has examples.
func TestFeaturesHaveExamples(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	byAnchor := map[string]string{}
	for heading, text := range sections(document(t, "EXAMPLES.md")) {
		byAnchor["docs/EXAMPLES.md#"+anchor(heading)] = text
		if !exampleLink.MatchString(text) {
			t.Errorf("docs/EXAMPLES.md has no example of %s", heading)
		}
	}
	rows := featureRow.FindAllStringSubmatch(sections(string(readme))["What you get"], -1)
	require.NotEmpty(t, rows)
	for _, row := range rows {
		require.Contains(t, byAnchor, row[2], "the row %s of README.md leads to no section", row[1])
	}
}

// TestExamplesAreListed checks that docs/EXAMPLES.md lists every example of every
// module, that each is in a file of its own, and that it is run, unless its
// comment says that it is only compiled.
func TestExamplesAreListed(t *testing.T) {
	listed := map[string]bool{}
	for _, m := range exampleLink.FindAllStringSubmatch(document(t, "EXAMPLES.md"), -1) {
		listed[m[1]] = true
	}
	walk(t, func(name string, data []byte) {
		found := exampleFunction.FindAllSubmatch(data, -1)
		isExample := strings.HasPrefix(path.Base(name), "example")
		switch {
		case strings.HasPrefix(name, "internal/lint/"):
		case len(found) == 0 && !isExample && !listed[name]:
		case len(found) != 1:
			t.Errorf("%s has %d examples, not one", name, len(found))
		case !isExample:
			t.Errorf("%s has an example and is not named so", name)
		case !listed[name]:
			t.Errorf("docs/EXAMPLES.md does not list %s", name)
		case !strings.Contains(string(data), "// Output:") && !strings.Contains(oneLine(string(found[0][1])), "only compiled"):
			t.Errorf("the example of %s has no output, so it does not run", name)
		}
		delete(listed, name)
	}, "_test.go")
	require.Empty(t, listed, "examples that docs/EXAMPLES.md lists and that are not there")
}
