package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/counterpoint-ml/counterpoint/configs"
	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/progress"
	"github.com/counterpoint-ml/counterpoint/coordinator/report"
)

func coordinatorCommand() *cobra.Command {
	var file, dir, name string
	var sets []string
	var resume, asJSON, stay bool
	cmd := &cobra.Command{
		Use:   "coordinator --config RUN.yaml --dir FOLDER",
		Short: "Lead a run for workers that join over the network",
		Long: `The coordinator keeps the run's facts in its Raft log, serves shards and settings to workers, and embeds the NATS
server that they join. It computes nothing. Killed at any moment and started again with the same folder, it goes on.
A run file with stages is led stage by stage, at one address: workers stay and join the next one by themselves.
A file with cluster: and log: alone makes a coordinator that hosts: it leads the runs that are submitted to it, several at
once, and ends when it is told to. --stay lets one that was started with a run take others beside it, and outlive it.`,
		Example: "  counterpoint coordinator --config run.yaml --dir /var/lib/counterpoint/run1\n  counterpoint worker --join nats://127.0.0.1:4222",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" || dir == "" {
				return fmt.Errorf("--config and --dir are needed")
			}
			config, err := configs.Load(file, configs.Layers{Env: os.Environ(), Set: sets, Hosts: true})
			if err != nil {
				return err
			}
			config.Log.Dir = dir
			if name, err = oneOf(config, name); err != nil {
				return err
			}
			c := &coordination{stay: stay, name: name, cmd: cmd, file: file, resume: resume, json: asJSON, listen: config.Cluster.Listen, again: commandLine("coordinator --config", file, dir, sets), sets: sets}
			if c.listen == "" {
				c.listen = "127.0.0.1:4222"
			}
			first := stopping
			if config.Hosts {
				first = "leaving: the runs go on when a coordinator has this folder again; once more ends at once"
			}
			if name != "" {
				first = "leaving: the other coordinators go on; once more ends at once"
			}
			c.ctx, c.drain = interrupts(cmd.Context(), cmd.ErrOrStderr(), first, atOnce+c.again)
			if config.Hosts {
				return c.serveRuns(config)
			}
			if len(config.Stages) == 0 {
				_, _, err := c.lead(config)
				return err
			}
			for _, s := range config.Stages {
				s.Config.Log.Dir = filepath.Join(dir, s.Name)
			}
			p := &pipeline{config: config, out: cmd.OutOrStdout(), json: asJSON, once: func(stage *configs.Config, _ string) (coordinator.Outcome, *report.Record, error) {
				return c.lead(stage)
			}}
			return p.run()
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "run file")
	f.StringVar(&dir, "dir", "", "folder of this coordinator: Raft log, events, report")
	f.StringVar(&name, "name", "", "which of cluster.coordinators this is; left out: the one called like this host, or whose address is of this host alone")
	f.StringArrayVar(&sets, "set", nil, "key=value over the run file, such as --set cluster.listen=127.0.0.1:4300")
	f.BoolVar(&resume, "resume", false, "let a paused or failed run go on")
	f.BoolVar(&stay, "stay", false, "take submitted runs beside the file's, and go on when it is over")
	f.BoolVar(&asJSON, "json", false, "events as JSON lines")
	return cmd
}

// oneOf returns which of cluster.coordinators this process is, "" if there are none, and listens where that one says.
func oneOf(config *configs.Config, name string) (string, error) {
	if len(config.Cluster.Coordinators) == 0 {
		if name != "" {
			return "", fmt.Errorf("--name %s: the run file has no cluster.coordinators", name)
		}
		return "", nil
	}
	me, err := coordinator.FindCoordinator(config.Cluster.Coordinators, name)
	if err != nil {
		return "", err
	}
	if config.Cluster.Listen == "" {
		config.Cluster.Listen = me.NATS
	}
	if config.Cluster.API == "" {
		config.Cluster.API = me.API
	}
	return me.Name, nil
}

// coordination is what the runs of one coordinator share: all the stages of a pipeline.
type coordination struct {
	ctx    context.Context
	drain  <-chan struct{}
	cmd    *cobra.Command
	file   string
	again  string
	listen string
	name   string
	told   bool
	resume bool
	stay   bool // take submitted runs too
	json   bool
	sets   []string // of the command line
}

// lead leads one run for the workers that join.
func (c *coordination) lead(config *configs.Config) (coordinator.Outcome, *report.Record, error) {
	var outcome coordinator.Outcome
	log, done, err := runLog(config)
	if err != nil {
		return outcome, nil, err
	}
	defer done()
	p, err := prepare(config, log)
	if err != nil {
		return outcome, nil, err
	}
	defer p.close()
	out := c.cmd.OutOrStdout()
	lines := progress.Lines(out, config.Train.Steps, 5*time.Second)
	if c.json {
		lines = progress.JSON(out)
	}
	p.sets = c.sets
	view := p.keep(lines, c.file, log)
	defer view.Close()
	outcome, err = p.lead(c.ctx, launch{listen: c.listen, stay: c.stay, name: c.name, resume: c.resume, view: view, log: log, drain: c.drain, started: c.started, api: c.api(config, log)})
	if err != nil {
		return outcome, nil, ending(c.ctx, c.cmd.ErrOrStderr(), atOnce+c.again, err)
	}
	if outcome.Others {
		if !c.json {
			fmt.Fprintf(out, "%s: step %d, %s; the other coordinators have the rest\n", config.Name, outcome.Step, outcome.State)
		}
		return outcome, nil, nil
	}
	if !view.accepted && outcome.State == fsm.Paused {
		return outcome, nil, pausedBefore(outcome, c.again)
	}
	record, err := p.conclude(c.cmd, c.again, outcome, c.json)
	return outcome, record, err
}

// started says where workers join, and keeps the address for the stages that follow.
func (c *coordination) started(n *coordinator.Node) {
	if url, err := url.Parse(n.URL()); err == nil && strings.HasSuffix(c.listen, ":0") {
		c.listen = url.Host
	}
	if !c.json && !c.told {
		fmt.Fprintf(c.cmd.OutOrStdout(), "workers join with: counterpoint worker --join %s\n", n.Join())
	}
	c.told = true
}

// api returns what serves the HTTP API beside the node; nil = there is to be none.
func (c *coordination) api(config *configs.Config, log *slog.Logger) func(context.Context, *coordinator.Node) (*apiServer, error) {
	listen := config.Cluster.API
	for _, one := range config.Cluster.Coordinators {
		if one.Name == c.name && one.API != "" {
			listen = one.API
		}
	}
	if listen == noAPI {
		return nil
	}
	return func(ctx context.Context, n *coordinator.Node) (*apiServer, error) {
		s, err := serveAPI(ctx, n, listen, c.name, config, c.cmd.ErrOrStderr(), log)
		if s != nil && !c.json && !c.told {
			fmt.Fprintf(c.cmd.OutOrStdout(), "steer it with:     counterpoint status%s\n", serverFlag(s.server.URL()))
		}
		return s, err
	}
}
