package main

import (
	"fmt"
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
	first, second := map[string]bool{}, []string{}
	var words []string
	for _, c := range append(commands, &command{words: "help"}) {
		parts := strings.Fields(c.words)
		if !first[parts[0]] {
			first[parts[0]] = true
			words = append(words, parts[0])
		}
		if len(parts) == 2 {
			second = append(second, parts[1])
		}
	}
	top, sub := strings.Join(words, " "), strings.Join(second, " ")
	switch rest[0] {
	case "bash", "zsh":
		if rest[0] == "zsh" {
			fmt.Fprintln(e.stdout, "autoload -U +X bashcompinit && bashcompinit")
		}
		fmt.Fprintf(e.stdout, `_shardlog() {
  local words="%s"
  [ "$COMP_CWORD" -eq 2 ] && words=""
  [ "$COMP_CWORD" -eq 2 ] && [ "${COMP_WORDS[1]}" = stream ] && words="%s"
  [ "$COMP_CWORD" -gt 2 ] && words=""
  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _shardlog shardlog
`, top, sub)
	case "fish":
		fmt.Fprintf(e.stdout, "complete -c shardlog -n __fish_use_subcommand -a '%s'\ncomplete -c shardlog -n '__fish_seen_subcommand_from stream' -a '%s'\n", top, sub)
	default:
		return e.misused("no completion for %q; there are bash, zsh and fish", rest[0])
	}
	return nil
}
