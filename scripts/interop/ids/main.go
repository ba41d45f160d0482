// Ids prints the token ids that `counterpoint embed` computes with, a JSON list for each line of standard input: ids
// MODEL [PROMPT-NAME [BASE]]. Lines are JSON strings.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/counterpoint-ml/counterpoint/trainer/encode"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
)

func main() {
	if len(os.Args) < 2 || len(os.Args) > 4 {
		fmt.Fprintln(os.Stderr, "ids: want MODEL [PROMPT-NAME [BASE]]")
		os.Exit(2)
	}
	args := append(os.Args[1:], "", "")
	if err := run(context.Background(), args[0], args[1], args[2], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "ids:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, model, promptName, base string, in io.Reader, out io.Writer) error {
	dev, err := cpu.New(1)
	if err != nil {
		return err
	}
	defer dev.Close()
	e, err := encode.Open(ctx, model, dev, encode.Options{Base: base})
	if err != nil {
		return err
	}
	defer e.Close()
	prompt, err := e.Prompt(promptName)
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(out)
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var text string
		if err := json.Unmarshal(lines.Bytes(), &text); err != nil {
			return err
		}
		t, _ := e.Tokenize(prompt, text)
		if err := encoder.Encode(t.Tokens); err != nil {
			return err
		}
	}
	return lines.Err()
}
