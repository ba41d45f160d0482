package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// commandLine is the command that resumes a run, as it can be pasted into a shell.
func commandLine(command, file, dir string, sets []string) string {
	words := []string{"counterpoint", command, quoted(file)}
	if dir != "" {
		words = append(words, "--dir", quoted(dir))
	}
	for _, set := range sets {
		words = append(words, "--set", quoted(set))
	}
	return strings.Join(append(words, "--resume"), " ")
}

// quoted is a word as a POSIX shell takes it.
func quoted(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./=:,@%+", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// exactly wants one argument for each name, and says which is missing.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return fmt.Errorf("%s is missing: %s", names[len(args)], cmd.UseLine())
		}
		if len(args) > len(names) {
			return fmt.Errorf("unexpected argument %q: %s", args[len(names)], cmd.UseLine())
		}
		return nil
	}
}

// atLeast wants an argument for each name; the last may be repeated.
func atLeast(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		return exactly(names...)(cmd, args[:min(len(args), len(names))])
	}
}

// optional takes one argument of that name, or none.
func optional(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return fmt.Errorf("unexpected argument %q after %s: %s", args[1], name, cmd.UseLine())
		}
		return nil
	}
}
