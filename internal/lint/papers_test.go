package lint

import (
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func document(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, "docs", name))
	require.NoError(t, err)
	return string(data)
}

// condensed makes texts comparable: a term may be written in camel case, with a
// hyphen, or over two lines of a comment.
func condensed(s string) string {
	return regexp.MustCompile(`[-\s/]+`).ReplaceAllString(strings.ToLower(s), "")
}

var glossaryTerm = regexp.MustCompile(`(?m)^- \*\*(.+?)\*\*: \S`)

// TestGlossary checks that the terms of the glossary are those of the code, and
// in alphabetical order.
func TestGlossary(t *testing.T) {
	var terms []string
	for _, m := range glossaryTerm.FindAllStringSubmatch(document(t, "GLOSSARY.md"), -1) {
		terms = append(terms, m[1])
	}
	require.Greater(t, len(terms), 30)
	require.True(t, sort.SliceIsSorted(terms, func(i, j int) bool { return strings.ToLower(terms[i]) < strings.ToLower(terms[j]) }), "terms out of order: %v", terms)
	missing := map[string]bool{}
	for _, term := range terms {
		for _, t := range strings.Split(term, ", ") {
			missing[t] = true
		}
	}
	walk(t, func(path string, data []byte) {
		if strings.HasPrefix(path, "internal/lint/") {
			return
		}
		text := condensed(string(data))
		for term := range missing {
			if strings.Contains(text, stem(condensed(term))) {
				delete(missing, term)
			}
		}
	}, ".go")
	require.Empty(t, missing, "terms that do not occur in the code")
}

// stem cuts an ending that changes with the use of a word, as in bisection.
func stem(term string) string {
	for _, end := range []string{"ion", "y"} {
		if s, ok := strings.CutSuffix(term, end); ok && len(s) > 5 {
			return s
		}
	}
	return term
}

var (
	scenarioLine  = regexp.MustCompile(`(?m)^\| (\d+) \| (.+?) \| (.+) \|$`)
	scenarioTests = regexp.MustCompile("([\\w/]+): ((?:`\\w+`(?:, )?)+)")
	testFunction  = regexp.MustCompile(`(?m)((?:^//[^\n]*\n)*)^func ((?:Test|Fuzz)\w*)\(`)
	inTestName    = regexp.MustCompile(`Scenario(\d+)`)
	inComment     = regexp.MustCompile(`[Ss]cenarios? (\d+(?:(?:, | and )\d+)*)`)
)

// cited returns the numbers of the scenarios that a test cites.
func cited(comment, name string) []int {
	var texts []string
	for _, m := range inTestName.FindAllStringSubmatch(name, -1) {
		texts = append(texts, m[1])
	}
	for _, m := range inComment.FindAllStringSubmatch(oneLine(comment), -1) {
		texts = append(texts, regexp.MustCompile(`\d+`).FindAllString(m[1], -1)...)
	}
	var numbers []int
	for _, s := range texts {
		n, err := strconv.Atoi(s)
		if err == nil {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// TestScenarios checks docs/SCENARIOS.md and the tests against each other.
func TestScenarios(t *testing.T) {
	type test struct{ folder, name string }
	tests, cites := map[test]bool{}, map[int][]test{}
	walk(t, func(path string, data []byte) {
		if strings.HasPrefix(path, "internal/lint/") {
			return
		}
		for _, m := range testFunction.FindAllStringSubmatch(string(data), -1) {
			id := test{filepath.ToSlash(filepath.Dir(path)), m[2]}
			tests[id] = true
			for _, n := range cited(m[1], m[2]) {
				cites[n] = append(cites[n], id)
			}
		}
	}, "_test.go")

	listed := map[int]map[test]bool{}
	for _, m := range scenarioLine.FindAllStringSubmatch(document(t, "SCENARIOS.md"), -1) {
		n, err := strconv.Atoi(m[1])
		require.NoError(t, err)
		require.NotContains(t, listed, n, "a scenario that is listed twice")
		listed[n] = map[test]bool{}
		for _, group := range scenarioTests.FindAllStringSubmatch(m[3], -1) {
			for _, name := range regexp.MustCompile(`\w+`).FindAllString(group[2], -1) {
				id := test{group[1], name}
				listed[n][id] = true
				if !tests[id] {
					t.Errorf("scenario %d names %s in %s, which is not there", n, name, group[1])
				}
			}
		}
		if len(listed[n]) == 0 {
			t.Errorf("scenario %d names no test", n)
		}
	}
	require.NotEmpty(t, listed)
	for n, ids := range cites {
		for _, id := range ids {
			if !listed[n][id] {
				t.Errorf("%s in %s cites scenario %d, which does not name it", id.name, id.folder, n)
			}
		}
	}
}

func TestScenariosAreFound(t *testing.T) {
	require.Equal(t, []int{4}, cited("", "TestScenario04Lease"))
	require.Equal(t, []int{45, 72}, cited("", "TestScenario45Scenario72Split"))
	require.Equal(t, []int{22, 25}, cited("// Scenarios 22 and 25: the store is\n// down.\n", "TestDown"))
	require.Equal(t, []int{47}, cited("// The writer's part of\n// scenario 47; readers\n", "TestWriter"))
	require.Empty(t, cited("// One of several scenarios.\n", "TestOther3"))
	require.Equal(t, "bisect", stem("bisection"))
	require.Contains(t, condensed("a KeyQueue"), condensed("key queue"))
}
