package lint

import (
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// turn is a phrase that a reader has to translate, and what to write in its
// place.
type turn struct{ pattern, instead string }

// bannedTurns are matched without regard to case, in comments, in string
// literals outside tests, and in documents. See docs/GLOSSARY.md.
var bannedTurns = []turn{
	{`tells? (whether|if|how|what|which|where|when|who|apart)`, `"reports whether", "returns", "says", "distinguishes"`},
	{`tells`, `"reports", "returns", "shows"`},
	{`(is|are|was|were|be|been|being|it) told`, `"is notified", "is reported", "receives"`},
	{`told (of|about|by|that|apart)`, `"notified of", "reported", "distinguished"`},
	{`besides`, `"as well", "in addition to"`},
	{`beside`, `"next to", "in addition to", "compared with", "while"`},
	{`anew`, `"again"`},
	{`(made|makes|make|making) again`, `"recreated", "created again"`},
	{`for good`, `"permanently"`},
	{`at the (most|least)`, `"at most", "at least"`},
	{`at once`, `"immediately", or "at the same time", "in one call"`},
	{`heed(s|ed|ing)?`, `"respects", "observes"`},
	{`(go|goes|going|gone|went|rides?|riding) along`, `"is stored with", "accompanies"`},
	{`(hold|holds|holding|held) up`, `"stalls", "blocks", "delays"`},
	{`what (becomes|became|has become) of`, `"the outcome of"`},
	{`of use`, `"useful"`},
	{`lest|thereof|therein|thereby|whereof|wherein|whereby|hence|henceforth|hereby|therefrom`, `plain words`},
	{`without a word|in silence`, `"silently"`},
	{`with the power|power (went|goes)`, `"in a power failure"`},
	{`the like`, `"similar"`},
	{`mend(s|ed|ing)?`, `"repairs", "fixes"`},
	{`signs? of life`, `"heartbeat"`},
	{`looks? whether|look whether`, `"checks whether"`},
	{`(take|takes|taken|taking|took) apart`, `"de-aggregates", "decodes", "splits"`},
	{`(break|breaks|broke|broken|breaking) off`, `"stops", "aborts"`},
	{`all the same`, `"anyway"`},
	{`in the making`, `"being built"`},
	{`(go|goes|going|went|gone) on`, `"continues"`},
	{`(comes?|came|coming) (behind|on top)`, `"follows", "is added"`},
	{`bears?|borne`, `"has", "carries"`},
	{`is had|is to be had|are to be had`, `"is available"`},
	{`gets? to know`, `"learns"`},
	{`by and by|bit by bit`, `"gradually"`},
	{`so to (say|speak)`, `nothing`},
	{`into the bargain`, `"as well"`},
	{`give(s)? way|giving way|gave way`, `"yields", "releases"`},
	{`whosoever|whoever`, `"the caller", "the owner", "anyone who"`},
	{`as far as (it|they) (can|could)`, `"as much as possible"`},
	{`say(s)? so`, `"reports it"`},
	{`of that kind|of the kind|of a kind`, `"such", "of the same type"`},
	{`no more than that`, `"nothing else"`},
	{`is meant by it`, `"means"`},
}

// foreignTexts are files whose strings are quoted from elsewhere: the list
// itself, and AWS's own texts.
var foreignTexts = []string{"internal/lint/language_test.go"}

var banned = func() *regexp.Regexp {
	var all []string
	for _, b := range bannedTurns {
		all = append(all, b.pattern)
	}
	return regexp.MustCompile(`(?i)\b(?:` + strings.Join(all, "|") + `)\b`)
}()

func instead(found string) string {
	for _, b := range bannedTurns {
		if regexp.MustCompile(`(?i)^(?:` + b.pattern + `)$`).MatchString(found) {
			return b.instead
		}
	}
	return ""
}

// oneLine joins the words of a text, so that a phrase broken over two lines is
// found as well.
func oneLine(s string) string {
	s = regexp.MustCompile(`(?m)^\s*(//|\*)?`).ReplaceAllString(s, " ")
	return strings.Join(strings.Fields(s), " ")
}

func TestBannedTurns(t *testing.T) {
	report := func(where, text string) {
		for _, m := range banned.FindAllStringIndex(text, -1) {
			from, to := max(0, m[0]-30), min(len(text), m[1]+30)
			t.Errorf("%s: %q in %q: write %s", where, text[m[0]:m[1]], text[from:to], instead(text[m[0]:m[1]]))
		}
	}
	walk(t, func(path string, data []byte) {
		if slices.Contains(foreignTexts, path) {
			return
		}
		if strings.HasSuffix(path, ".md") {
			report(path, oneLine(string(mdCode.ReplaceAll(data, nil))))
			return
		}
		fset, file := parse(t, path, data)
		for _, c := range file.Comments {
			report(fset.Position(c.Pos()).String(), oneLine(c.Text()))
		}
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				s, err := strconv.Unquote(lit.Value)
				require.NoError(t, err)
				report(fset.Position(lit.Pos()).String(), oneLine(s))
			}
			return true
		})
	}, ".go", ".md")
}

func TestBannedTurnsAreFound(t *testing.T) {
	for _, text := range []string{"Closed tells whether it is closed.", "they are read besides", "tried anew", "It is told of it.", "gone for\n// good", "goes on at once"} {
		require.True(t, banned.MatchString(oneLine(text)), text)
	}
	for _, text := range []string{"reports whether", "a gone one", "goes to", "forehead", "sides", "newest"} {
		require.False(t, banned.MatchString(oneLine(text)), text)
	}
	for _, b := range bannedTurns {
		require.NotEmpty(t, b.instead, b.pattern)
	}
}
