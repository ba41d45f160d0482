// Counterpoint is a distributed contrastive fine-tuning orchestrator: one YAML file describes a run, one binary
// runs it on a laptop or on a fleet, and the fleet does not show in the result.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// Set by the linker.
var (
	version = "dev"
	commit  = "unknown"
)

// exitError carries an exit code for a failure that has been reported already.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit %d", e.code) }

func main() {
	err := run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)
	var exit exitError
	switch {
	case err == nil:
	case errors.As(err, &exit):
		os.Exit(exit.code)
	default:
		fmt.Fprintln(os.Stderr, "counterpoint:", err)
		os.Exit(1)
	}
}

// run is main without the process: everything a command prints goes to stdout and stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	root := &cobra.Command{
		Use:   "counterpoint",
		Short: "Train text embedders on a fleet that does not show in the result",
		Long: `Counterpoint fine-tunes diffusion and autoregressive language models into text embedders
with InfoNCE, on one machine or on workers that come and go. The parameters after step s
are a function of the run file, the data, the seed and s, bit for bit, whatever the fleet.`,
		Example: `  counterpoint quickstart                              see it work, no download
  counterpoint train run.yaml --dry-run                the plan: tokens, memory, negatives, time
  counterpoint train run.yaml                          train, evaluate, report
  counterpoint coordinator --config run.yaml --dir D   a coordinator; then, any number of times:
  counterpoint worker --join nats://127.0.0.1:4222     a worker`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(
		trainCommand(), quickstartCommand(), coordinatorCommand(), workerCommand(),
		submitCommand(), runsCommand(), statusCommand(), logsCommand(), pauseCommand(), resumeCommand(), cancelCommand(), priorityCommand(), workersCommand(),

		evalCommand(), compareCommand(), scoreCommand(), embedCommand(), exportCommand(), verifyCommand(), reportCommand(), configCommand(), certsCommand(), tokenCommand(), versionCommand(),
	)
	return root.ExecuteContext(ctx)
}
