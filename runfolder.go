package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/counterpoint-ml/counterpoint/configs"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/isa"
)

// keepPlan writes the plan, the run file and the identity beside the events, for the report.
func (p *prepared) keepPlan(file string) error {
	var plan bytes.Buffer
	if err := p.plan(&plan); err != nil {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	_, digest, err := p.identity()
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{"plan.txt": plan.Bytes(), "run.yaml": text, "identity.txt": []byte(digest)} {
		if err := os.WriteFile(filepath.Join(p.dir, name), content, 0o644); err != nil {
			return fmt.Errorf("run folder: %w", err)
		}
	}
	return nil
}

// setAside renames the run's folder, so that a run begins again and nothing is lost.
func setAside(config *configs.Config, w io.Writer) error {
	dir := config.Log.Dir
	if dir == "" {
		dir = filepath.Join("runs", config.Name)
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
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
	if level == "" || os.Getenv(isa.Env) == level {
		return isa.Check()
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return syscall.Exec(self, os.Args, append(os.Environ(), isa.Env+"="+level))
}
