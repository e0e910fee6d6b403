package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

var completionCommand = &command{
	words: "completion", args: "SHELL", short: "print completions for bash, zsh or fish",
	long: `
Prints what makes a shell complete the commands:

    bash    source <(shardlog completion bash)
    zsh     source <(shardlog completion zsh)
    fish    shardlog completion fish | source`,
}

func init() { completionCommand.run = completion }

func completion(e *env, args []string) error {
	rest, err := e.parse(e.flags(), args, 1)
	if err != nil {
		return err
	}
	first, second := map[string]bool{}, map[string][]string{}
	var words []string
	for _, c := range append(commands, &command{words: "help"}) {
		parts := strings.Fields(c.words)
		if !first[parts[0]] {
			first[parts[0]] = true
			words = append(words, parts[0])
		}
		if len(parts) == 2 {
			second[parts[0]] = append(second[parts[0]], parts[1])
		}
	}
	top := strings.Join(words, " ")
	groups := slices.Sorted(maps.Keys(second))
	switch rest[0] {
	case "bash", "zsh":
		if rest[0] == "zsh" {
			fmt.Fprintln(e.stdout, "autoload -U +X bashcompinit && bashcompinit")
		}
		fmt.Fprintf(e.stdout, `_shardlog() {
  local words="%s"
  [ "$COMP_CWORD" -gt 1 ] && words=""
`, top)
		for _, g := range groups {
			fmt.Fprintf(e.stdout, "  [ \"$COMP_CWORD\" -eq 2 ] && [ \"${COMP_WORDS[1]}\" = %s ] && words=\"%s\"\n", g, strings.Join(second[g], " "))
		}
		fmt.Fprint(e.stdout, `  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _shardlog shardlog
`)
	case "fish":
		fmt.Fprintf(e.stdout, "complete -c shardlog -n __fish_use_subcommand -a '%s'\n", top)
		for _, g := range groups {
			fmt.Fprintf(e.stdout, "complete -c shardlog -n '__fish_seen_subcommand_from %s' -a '%s'\n", g, strings.Join(second[g], " "))
		}
	default:
		return e.misused("no completion for %q; there are bash, zsh and fish", rest[0])
	}
	return nil
}
