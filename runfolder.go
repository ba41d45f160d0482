package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/counterpoint-ml/counterpoint/configs"
	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/consensus"
	"github.com/counterpoint-ml/counterpoint/coordinator/progress"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/isa"
)

// runDir is the folder of a run's Raft log, events and report: log.dir, or runs/NAME.
func runDir(config *configs.Config) string {
	if config.Log.Dir != "" {
		return config.Log.Dir
	}
	return filepath.Join("runs", config.Name)
}

// keeping is a view that knows whether there was anything to tell. The first event says that the folder took the run:
// only then are the plan, the run file and the identity written there, so that a run that is refused leaves those of the
// run that it was refused for.
type keeping struct {
	progress.View
	first    func()
	accepted bool // there was an event
}

func (k *keeping) Event(e coordinator.Event) {
	if !k.accepted {
		k.accepted = true
		k.first()
	}
	k.View.Event(e)
}

func (p *prepared) keep(view progress.View, file string, log *slog.Logger) *keeping {
	return &keeping{View: view, first: func() {
		if err := p.keepPlan(file); err != nil {
			log.Warn("the report will lack the plan", "error", err)
		}
	}}
}

// keepPlan writes the plan, if one was made, the run file and the identity beside the events, for the report.
func (p *prepared) keepPlan(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	_, digest, err := p.identity()
	if err != nil {
		return err
	}
	from, err := p.origin(file)
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{"plan.txt": p.planned, "run.yaml": text, "identity.txt": []byte(digest), originName: from} {
		if content == nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(p.dir, name), content, 0o644); err != nil {
			return fmt.Errorf("run folder: %w", err)
		}
	}
	return nil
}

// setAside renames the run's folder, so that a run begins again and nothing is lost.
func setAside(config *configs.Config, w io.Writer) error {
	dir := runDir(config)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	lock, err := consensus.Acquire(dir, version) // a folder that is in use stays where it is
	if err != nil {
		return err
	}
	defer lock.Release()
	old := dir + ".before-" + time.Now().Format("20060102-150405")
	if err := os.Rename(dir, old); err != nil {
		return err
	}
	fmt.Fprintf(w, "set aside %s as %s\n", dir, old)
	return nil
}

// useKernels makes the process use the kernels of a level. They are chosen when a process starts, so it starts
// itself again.
func useKernels(level string) error {
	if err := isa.Check(); level == "" || isa.Active().String() == level || err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	environment := slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, isa.Env+"=") }) // the first of two counts
	return syscall.Exec(self, os.Args, append(environment, isa.Env+"="+level))
}
