package main

import (
	_ "embed"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/counterpoint-ml/counterpoint/configs"
	"github.com/counterpoint-ml/counterpoint/coordinator"
)

func configCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Explain, check and complete run files"}
	cmd.AddCommand(
		&cobra.Command{
			Use:     "explain [KEY]",
			Short:   "What a key means, its type, default and what is allowed; all keys without KEY",
			Example: "  counterpoint config explain train.schedule\n  counterpoint config explain data[0].limit\n  counterpoint config explain cluster.failure_timeout=500ms   # and every timer that derives from it",
			Args:    cobra.MaximumNArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				key := ""
				if len(args) == 1 {
					key = args[0]
				}
				key, value, _ := strings.Cut(key, "=")
				if err := configs.Explain(cmd.OutOrStdout(), key); err != nil || key != "cluster.failure_timeout" {
					return err
				}
				failure := time.Second
				if value != "" {
					var err error
					if failure, err = time.ParseDuration(value); err != nil {
						return fmt.Errorf("%s: %w; a duration is expected, such as 500ms", key, err)
					}
				}
				fmt.Fprintln(cmd.OutOrStdout(), "\nEvery other timer derives from it; each must fit into the one that it stands below:")
				return coordinator.ExplainTimers(cmd.OutOrStdout(), failure)
			},
		},
		&cobra.Command{
			Use:     "schema",
			Short:   "The JSON Schema of run files, so that editors complete them",
			Example: "  counterpoint config schema > run.schema.json   # then: # yaml-language-server: $schema=run.schema.json",
			Args:    cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				text, err := configs.JSONSchema()
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s\n", text)
				return nil
			},
		},
		&cobra.Command{
			Use:     "example",
			Short:   "A run file to start from",
			Example: "  counterpoint config example > run.yaml",
			Args:    cobra.NoArgs,
			Run: func(cmd *cobra.Command, _ []string) {
				// Its data is the quickstart's, and after a quickstart it runs where it stands.
				fmt.Fprintln(cmd.OutOrStdout(), "# Its data is what `counterpoint quickstart` leaves in this folder: try it so, then name your own.")
				fmt.Fprint(cmd.OutOrStdout(), strings.ReplaceAll(configs.Example, "../quickstart/", "runs/quickstart/data/"))
			},
		},
		&cobra.Command{
			Use:     "check RUN.yaml",
			Short:   "Load a run file and report every fault",
			Example: "  counterpoint config check run.yaml",
			Args:    exactly("RUN.yaml"),
			RunE: func(cmd *cobra.Command, args []string) error {
				if _, err := configs.Load(args[0], configs.Layers{Env: os.Environ()}); err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), args[0], "is sound")
				return nil
			},
		},
	)
	return cmd
}
