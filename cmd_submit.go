package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/counterpoint-ml/counterpoint/configs"
	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/api"
	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/progress"
)

func submitCommand() *cobra.Command {
	var r remote
	var sets []string
	var priority int
	var follow bool
	var key string
	cmd := &cobra.Command{
		Use:   "submit RUN.yaml",
		Short: "Hand a run in to a fleet, which gives it workers when it is its turn",
		Long: `The run file is checked here, its relative paths are made absolute from the file's folder, and what stands above it (the
environment, --set) is written into it: coordinators open the data and the checkpoint folder by the same paths. The fleet
keeps the run in its log, so that any coordinator can lead it, and may be given it again: the same run is there once.`,
		Example: `  counterpoint submit run.yaml
  counterpoint submit run.yaml --priority 10 --follow
  counterpoint submit run.yaml --set train.steps=2000 --server http://10.0.0.1:8300,http://10.0.0.2:8300`,
		Args: exactly("RUN.yaml"),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := os.ReadFile(args[0])
			if err != nil {
				return fmt.Errorf("read run file: %w", err)
			}
			file, moved, err := configs.Portable(args[0], text, configs.Layers{Env: os.Environ(), Set: sets})
			if err != nil {
				return err
			}
			if len(file) > api.MaxFile {
				return fmt.Errorf("%s: %s bytes; a fleet takes %s", args[0], grouped(len(file)), grouped(api.MaxFile))
			}
			c, err := r.client()
			if err != nil {
				return err
			}
			if key == "" {
				key = api.NewKey()
			}
			if !r.json {
				writeMoved(cmd.OutOrStdout(), moved)
			}
			receipt, err := handIn(cmd, c, file, priority, key)
			if err != nil {
				return err
			}
			if r.json && !follow {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(struct {
					*api.Receipt
					Paths []configs.Moved `json:"paths,omitempty"`
				}{receipt, moved})
			}
			if !r.json {
				verb := "submitted"
				if receipt.Existing {
					verb = "is there already:"
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", verb, receipt.Run)
				if !follow {
					fmt.Fprintf(cmd.OutOrStdout(), "  counterpoint status %s\n", receipt.Run)
				}
			}
			if !follow {
				return nil
			}
			return followRun(cmd, c, receipt.Run, r.json)
		},
	}
	r.flags(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&sets, "set", nil, "key=value over the run file and the environment; repeatable")
	f.IntVar(&priority, "priority", 0, "a run of higher priority gets workers first")
	f.BoolVarP(&follow, "follow", "f", false, "show the run's progress until it is over; Ctrl-C leaves it running")
	f.StringVar(&key, "key", "", "idempotency key: the same again is the same run; left out: a fresh one")
	return cmd
}

// writeMoved says what became of the paths.
func writeMoved(w io.Writer, moved []configs.Moved) {
	for _, m := range moved {
		note := ""
		if m.Missing {
			note = "   (not on this machine; the coordinators must have it)"
		}
		fmt.Fprintf(w, "%s: %s -> %s%s\n", m.Key, m.From, m.To, note)
	}
}

// handIn submits a file, and waits while a coordinator reads its data.
func handIn(cmd *cobra.Command, c *api.Client, file []byte, priority int, key string) (*api.Receipt, error) {
	for waited := false; ; {
		b, err := c.Submit(cmd.Context(), file, priority, key)
		if err != nil {
			return nil, err
		}
		receipt := new(api.Receipt)
		if err := json.Unmarshal(b, receipt); err != nil {
			return nil, fmt.Errorf("the coordinator's answer: %w", err)
		}
		if !receipt.Preparing {
			return receipt, nil
		}
		if !waited {
			waited = true
			fmt.Fprintln(cmd.ErrOrStderr(), "the coordinator reads the run's data; this may take a while")
		}
		select {
		case <-time.After(time.Second):
		case <-cmd.Context().Done():
			return nil, cmd.Context().Err()
		}
	}
}

var errOver = errors.New("the run is over")

// followRun shows a run's events until it is over or paused. Ctrl-C ends the view, not the run.
func followRun(cmd *cobra.Command, c *api.Client, run string, asJSON bool) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b, err := c.Run(ctx, run)
	if err != nil {
		return err
	}
	var status coordinator.Status
	if err := json.Unmarshal(b, &status); err != nil {
		return fmt.Errorf("the coordinator's answer: %w", err)
	}
	out := cmd.OutOrStdout()
	view := progress.Lines(out, status.Steps, 5*time.Second)
	switch {
	case asJSON:
		view = progress.JSON(out)
	case terminal(out):
		view = progress.Bar(out, status.Name, status.Steps)
	}
	var last coordinator.Event // that changed the state
	var after int64
	show := func(id int64, text []byte) error {
		var e coordinator.Event
		if err := json.Unmarshal(text, &e); err != nil {
			return fmt.Errorf("event: %w", err)
		}
		view.Event(e)
		if after = id; e.Kind == coordinator.StateChanged {
			last = e
		}
		return nil
	}
	// What has happened so far may hold pauses that are over.
	if err = c.Events(ctx, run, 0, false, show); err == nil && !halted(last.State) {
		err = c.Events(ctx, run, after, true, func(id int64, text []byte) error {
			if err := show(id, text); err != nil || !halted(last.State) {
				return err
			}
			return errOver
		})
	}
	view.Close()
	switch {
	case errors.Is(err, errOver):
	case ctx.Err() != nil && cmd.Context().Err() == nil:
		fmt.Fprintf(cmd.ErrOrStderr(), "the run goes on: counterpoint status %s\n", run)
		return nil
	case err != nil:
		return err
	}
	if last.State != string(fsm.Finished) {
		fmt.Fprintf(cmd.ErrOrStderr(), "run %s is %s: %s\n", run, last.State, last.Reason)
		return exitError{1}
	}
	return nil
}

// halted reports whether a run in that state waits for somebody, or for nothing more.
func halted(state string) bool {
	switch fsm.Lifecycle(state) {
	case fsm.Paused, fsm.Failed, fsm.Cancelled, fsm.Finished:
		return true
	}
	return false
}
