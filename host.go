package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/counterpoint-ml/counterpoint/configs"
	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/progress"
)

// hosting opens the runs that are submitted to a coordinator.
type hosting struct {
	dir string // of the coordinator: a run without log.dir has its folder below it
	log *slog.Logger
	// group says that other coordinators may lead the runs too: then a run says where its checkpoints are.
	group bool
}

// open opens the data, suites and store of a run from its file, as it was submitted: its paths are absolute. It is what
// coordinator.Options.Host asks for.
func (h *hosting) open(ctx context.Context, file []byte) (*coordinator.Hosted, error) {
	config, err := configs.Decode("run.yaml", file, configs.Layers{})
	if err != nil {
		return nil, err
	}
	if len(config.Stages) > 0 {
		return nil, errors.New("a run file with stages is led by `counterpoint train` or a coordinator of its own; submit its stages one by one")
	}
	if err := h.absolute(config); err != nil {
		return nil, err
	}
	if h.group && config.Checkpoint.Dir == "" && config.Checkpoint.Store == "" {
		return nil, errors.New("checkpoint.dir: is needed with several coordinators: a folder that all of them and the workers reach by the same path; or checkpoint.store (submit --set checkpoint.dir=/shared/run)")
	}
	own := config.Log.Dir == ""
	if own {
		config.Log.Dir = filepath.Join(h.dir, "runs", config.Name)
	}
	p, err := prepare(config, h.log)
	if err != nil {
		return nil, err
	}
	if own {
		err = p.apart()
	}
	if err == nil {
		err = p.reach(ctx, h.log)
	}
	var sub coordinator.Submission
	if err == nil {
		sub, err = p.submission()
	}
	if err == nil {
		err = p.keepFile(file)
	}
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	kept := newStore(h.log)
	hosted := &coordinator.Hosted{
		Submission: sub, Feed: p.set, Store: kept, Kernels: config.Cluster.Kernels, Dir: p.dir,
		Close: func() error {
			kept.finish()
			return p.close()
		},
	}
	if len(p.suites) > 0 {
		hosted.Suites = p.suites
	}
	return hosted, nil
}

// absolute refuses a path that means something else on every machine. `counterpoint submit` writes them out.
func (h *hosting) absolute(c *configs.Config) error {
	check := func(key, path string) error {
		if path == "" || filepath.IsAbs(path) || strings.Contains(path, "://") {
			return nil
		}
		return fmt.Errorf("%s: %q is relative; a coordinator opens a run by absolute paths (counterpoint submit writes them out)", key, path)
	}
	errs := []error{check("model.path", c.Model.Path), check("model.adapter", c.Model.Adapter), check("checkpoint.dir", c.Checkpoint.Dir), check("log.dir", c.Log.Dir)}
	for i, path := range c.Model.Merge {
		errs = append(errs, check(fmt.Sprintf("model.merge[%d]", i), path))
	}
	for i, d := range c.Data {
		errs = append(errs, check(fmt.Sprintf("data[%d].path", i), d.Path))
	}
	for i, s := range c.Evaluate.Suites {
		errs = append(errs, check(fmt.Sprintf("evaluate.suites[%d].path", i), s.Path))
	}
	return errors.Join(errs...)
}

// apart gives the run a folder of its own where one of its name is there that is another one.
func (p *prepared) apart() error {
	_, digest, err := p.identity()
	if err != nil {
		return err
	}
	had, err := os.ReadFile(filepath.Join(p.dir, "identity.txt"))
	if errors.Is(err, fs.ErrNotExist) || err == nil && string(had) == digest {
		return nil
	}
	if err != nil {
		return fmt.Errorf("run folder: %w", err)
	}
	below := p.store == filepath.Join(p.dir, "checkpoints")
	if p.dir += "-" + digest[:8]; below {
		p.store = filepath.Join(p.dir, "checkpoints")
	}
	return nil
}

// keepFile writes the run file and the identity beside the events, for the report.
func (p *prepared) keepFile(file []byte) error {
	_, digest, err := p.identity()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return fmt.Errorf("run folder: %w", err)
	}
	for name, content := range map[string][]byte{"run.yaml": file, "identity.txt": []byte(digest)} {
		if err := os.WriteFile(filepath.Join(p.dir, name), content, 0o644); err != nil {
			return fmt.Errorf("run folder: %w", err)
		}
	}
	return nil
}

// serveRuns leads what is submitted until the process is told to end. The first interrupt lets go of the runs: they go on
// when a coordinator leads this folder's log again, or under the others at once.
func (c *coordination) serveRuns(config *configs.Config) error {
	log, done, err := runLog(config)
	if err != nil {
		return err
	}
	defer done()
	dir, err := filepath.Abs(runDir(config))
	if err != nil {
		return err
	}
	h := &hosting{dir: dir, log: log, group: len(config.Cluster.Coordinators) > 1}
	views := &runViews{out: c.cmd.OutOrStdout(), open: map[string]progress.View{}}
	if c.json {
		views.all = progress.JSON(views.out)
	}
	defer views.close()
	options := coordinator.Options{
		Dir: dir, Cluster: config.Cluster, Log: log, Version: version, Stay: true, Host: h.open, Events: views.event, Name: c.name,
	}
	options.Cluster.Listen = c.listen
	node, err := coordinator.Open(options)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	var served *apiServer
	if serve := c.api(config, log); serve != nil {
		if served, err = serve(ctx, node); err != nil {
			return errors.Join(err, node.Close())
		}
	}
	c.started(node)
	stop := context.AfterFunc(closed(ctx, c.drain), func() {
		if c.name != "" {
			node.Leave(ctx)
		}
		cancel()
	})
	_, err = node.Run(ctx)
	stop()
	if c.ctx.Err() == nil && errors.Is(err, context.Canceled) {
		err = nil // asked to leave
	}
	if err = errors.Join(err, served.close(), node.Close()); err != nil {
		return ending(c.ctx, c.cmd.ErrOrStderr(), atOnce+c.again, err)
	}
	return nil
}

// runViews tells of each run in lines that begin with its id.
type runViews struct {
	out  io.Writer
	all  progress.View // one for all, which says the run itself; nil = one each
	open map[string]progress.View
}

func (v *runViews) event(e coordinator.Event) {
	view := v.all
	if view == nil {
		if view = v.open[e.Run]; view == nil {
			view = progress.Lines(prefixed{v.out, e.Run + "  "}, e.Steps, 5*time.Second)
			v.open[e.Run] = view
		}
	}
	view.Event(e)
}

func (v *runViews) close() {
	for _, view := range v.open {
		view.Close()
	}
}

// prefixed writes whole lines behind a prefix.
type prefixed struct {
	w      io.Writer
	prefix string
}

// Write implements io.Writer. progress.Lines writes line by line.
func (p prefixed) Write(text []byte) (int, error) {
	_, err := io.WriteString(p.w, p.prefix+string(text))
	return len(text), err
}
