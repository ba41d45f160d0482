package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/counterpoint-ml/counterpoint/coordinator/api"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

func pauseCommand() *cobra.Command {
	return controlCommand(wire.ActionPause, "Finish the step in flight, write a checkpoint and free a run's workers",
		`The step in flight is finished and a checkpoint written; then the workers go to the runs that wait. The run keeps its
place and its result: resume goes on exactly where it was. Pausing a paused run changes nothing.`)
}

func resumeCommand() *cobra.Command {
	return controlCommand(wire.ActionResume, "Let a paused or failed run go on, exactly where it was",
		`The run waits for workers again, in the order of priority and submission. Resuming a run that runs changes nothing.`)
}

func cancelCommand() *cobra.Command {
	return controlCommand(wire.ActionCancel, "End a run for good; its checkpoints stay",
		`The step in flight is given up and the workers are freed at once. A cancelled run cannot be resumed; submitted again, it
is a new one.`)
}

// controlCommand is a command that does one thing to one run.
func controlCommand(action, short, long string) *cobra.Command {
	var r remote
	var reason string
	cmd := &cobra.Command{
		Use:   action + " RUN",
		Short: short,
		Long: long + `
RUN is the run's id, its name, or the beginning of either.`,
		Example: fmt.Sprintf("  counterpoint %s debian-diffusion\n  counterpoint %[1]s deb --server http://10.0.0.1:8300,http://10.0.0.2:8300", action),
		Args:    oneRun,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := fetch[api.Steered](cmd, &r, func(ctx context.Context, c *api.Client) ([]byte, error) {
				return c.Control(ctx, args[0], action, reason)
			})
			if s == nil || err != nil {
				return err
			}
			return told(cmd, s)
		},
	}
	r.flags(cmd)
	if action != wire.ActionResume {
		cmd.Flags().StringVar(&reason, "reason", "", "why, for status and the report")
	}
	return cmd
}

// told says what a run is now.
func told(cmd *cobra.Command, s *api.Steered) error {
	text := "run %s is %s\n"
	if s.State == string(wire.Stopping) {
		text = "run %s is %s: the step in flight is finished and a checkpoint written\n"
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), text, s.Run, s.State)
	return err
}

func priorityCommand() *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use:   "priority RUN N",
		Short: "Set a run's priority: a higher one takes workers at the next round",
		Long: `Of the runs that wait and work, those with a higher priority get the workers that match them first; a round that is
under way is finished. The default is 0, and negative numbers are below it. RUN is the run's id, its name, or the beginning of either.`,
		Example: "  counterpoint priority debian-diffusion 10\n  counterpoint priority wiki -- -1",
		Args:    exactly("RUN", "N"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[1])
			if err != nil {
				return fmt.Errorf("priority %q: a whole number is expected, such as 10; negative ones after --", args[1])
			}
			s, err := fetch[api.Steered](cmd, &r, func(ctx context.Context, c *api.Client) ([]byte, error) { return c.Prioritize(ctx, args[0], n) })
			if s == nil || err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "run %s has priority %d and is %s\n", s.Run, n, s.State)
			return err
		},
	}
	r.flags(cmd)
	return cmd
}
