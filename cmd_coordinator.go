package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/counterpoint-ml/counterpoint/configs"
	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/progress"
)

func coordinatorCommand() *cobra.Command {
	var file, dir string
	var sets []string
	var resume, asJSON bool
	cmd := &cobra.Command{
		Use:   "coordinator --config RUN.yaml --dir FOLDER",
		Short: "Lead a run for workers that join over the network",
		Long: `The coordinator keeps the run's facts in its Raft log, serves shards and settings to workers, and embeds the NATS
server that they join. It computes nothing. Killed at any moment and started again with the same folder, it goes on.`,
		Example: "  counterpoint coordinator --config run.yaml --dir /var/lib/counterpoint/run1\n  counterpoint worker --join nats://127.0.0.1:4222",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" || dir == "" {
				return fmt.Errorf("--config and --dir are needed")
			}
			config, err := configs.Load(file, configs.Layers{Env: os.Environ(), Set: sets})
			if err != nil {
				return err
			}
			config.Log.Dir = dir
			log, done, err := runLog(config)
			if err != nil {
				return err
			}
			defer done()
			p, err := prepare(config, log)
			if err != nil {
				return err
			}
			defer p.close()
			out := cmd.OutOrStdout()
			lines := progress.Lines(out, config.Train.Steps, 5*time.Second)
			if asJSON {
				lines = progress.JSON(out)
			}
			view := p.keep(lines, file, log)
			defer view.Close()
			listen := config.Cluster.Listen
			if listen == "" {
				listen = "127.0.0.1:4222"
			}
			again := commandLine("coordinator --config", file, dir, sets)
			ctx, drain := interrupts(cmd.Context(), cmd.ErrOrStderr(), stopping, atOnce+again)
			outcome, err := p.lead(ctx, launch{
				listen: listen, resume: resume, view: view, log: log, drain: drain,
				started: func(n *coordinator.Node) {
					if !asJSON {
						fmt.Fprintf(out, "workers join with: counterpoint worker --join %s\n", n.URL())
					}
				},
			})
			if err != nil {
				return ending(ctx, cmd.ErrOrStderr(), atOnce+again, err)
			}
			return p.conclude(cmd, again, outcome, asJSON)
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "run file")
	f.StringVar(&dir, "dir", "", "folder of this coordinator: Raft log, events, report")
	f.StringArrayVar(&sets, "set", nil, "key=value over the run file, such as --set cluster.listen=0.0.0.0:4222")
	f.BoolVar(&resume, "resume", false, "let a paused or failed run go on")
	f.BoolVar(&asJSON, "json", false, "events as JSON lines")
	return cmd
}
