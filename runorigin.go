package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/counterpoint-ml/counterpoint/configs"
	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
)

// originName is the file in a run's folder that says where its run file was: its relative paths begin there.
const originName = "origin.json"

// origin is what a run's settings were read from, besides the text that run.yaml keeps.
type origin struct {
	File string   `json:"file"`
	Set  []string `json:"set,omitempty"`
}

func (p *prepared) origin(file string) ([]byte, error) {
	abs, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(origin{abs, p.sets})
	return append(text, '\n'), err
}

// reopen prepares the run of a folder once more, from the settings that it was begun with; file and sets, where given, are
// taken in their place.
func reopen(dir, file string, sets []string, log *slog.Logger) (*prepared, error) {
	config, err := reload(dir, file, sets)
	if err != nil {
		return nil, err
	}
	if len(config.Stages) == 0 {
		config.Log.Dir = dir
		return prepare(config, log)
	}
	whole := filepath.Dir(dir)
	for i := range config.Stages {
		s := &config.Stages[i]
		s.Config.Log.Dir = filepath.Join(whole, s.Name)
		if s.Name == filepath.Base(dir) {
			return prepare(s.Config, log)
		}
		if i+1 == len(config.Stages) {
			break
		}
		p, err := prepare(s.Config, log)
		if err != nil {
			return nil, fmt.Errorf("stage %s: %w", s.Name, err)
		}
		if checkpoint := madeBefore(p); checkpoint != "" {
			handOver(&config.Stages[i+1], s.Config, checkpoint)
		}
		if err := p.close(); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("the run file has no stage %s", filepath.Base(dir))
}

// reopenRun is reopen of a run that a log has: with the run file that was submitted, where the log keeps one.
func reopenRun(dir, file string, sets []string, run *fsm.Run, log *slog.Logger) (*prepared, error) {
	if file != "" || len(run.File) == 0 {
		return reopen(dir, file, sets, log)
	}
	config, err := configs.Decode("the run file of "+run.ID+" in the log", run.File, configs.Layers{Set: sets})
	if err != nil {
		return nil, err
	}
	config.Log.Dir = dir
	return prepare(config, log)
}

func reload(dir, file string, sets []string) (*configs.Config, error) {
	layers := configs.Layers{Env: os.Environ(), Set: sets}
	if file != "" {
		return configs.Load(file, layers)
	}
	text, err := os.ReadFile(filepath.Join(dir, "run.yaml"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s keeps no run file; name it with --config", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("run folder: %w", err)
	}
	from := origin{File: filepath.Join(dir, "run.yaml")}
	if b, err := os.ReadFile(filepath.Join(dir, originName)); err == nil {
		if err := json.Unmarshal(b, &from); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, originName), err)
		}
	}
	layers.Set = append(from.Set, sets...)
	return configs.Decode(from.File, text, layers)
}
