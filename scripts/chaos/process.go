package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// host is a machine of the fleet: a place where one process lives, and lives again after its death.
type host struct {
	name    string
	address string // IP
	space   string // network namespace; "" = this process's own
	dir     string
	args    []string
	env     []string

	cmd     *exec.Cmd
	done    chan struct{}
	stopped bool // SIGSTOP
	lives   int
}

// start begins another life.
func (h *host) start(binary string) error {
	if h.alive() {
		return nil
	}
	args := append([]string{binary}, h.args...)
	if h.space != "" {
		args = append([]string{"ip", "netns", "exec", h.space}, args...)
	}
	h.lives++
	out, err := os.OpenFile(filepath.Join(h.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	fmt.Fprintf(out, "--- life %d of %s at %s\n", h.lives, h.name, time.Now().Format("15:04:05.000"))
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Env = out, out, append(os.Environ(), h.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", h.name, err)
	}
	h.cmd, h.done, h.stopped = cmd, make(chan struct{}), false
	go func(done chan struct{}) {
		_ = cmd.Wait() // its end is all that matters
		close(done)
	}(h.done)
	return nil
}

func (h *host) alive() bool {
	if h.cmd == nil {
		return false
	}
	select {
	case <-h.done:
		return false
	default:
		return true
	}
}

// signal sends a signal; a process that has ended takes none.
func (h *host) signal(s syscall.Signal) {
	if !h.alive() {
		return
	}
	if err := h.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		say("signal %v to %s: %v", s, h.name, err)
	}
	switch s {
	case syscall.SIGSTOP:
		h.stopped = true
	case syscall.SIGCONT:
		h.stopped = false
	}
}

// kill is kill -9, and waits for the end.
func (h *host) kill() {
	if h.alive() {
		h.signal(syscall.SIGKILL)
		<-h.done
	}
}

// leave is SIGTERM, and kill -9 for whoever is still there after the limit.
func (h *host) leave(limit time.Duration) (orderly bool) {
	if !h.alive() {
		return true
	}
	h.signal(syscall.SIGTERM)
	select {
	case <-h.done:
		return true
	case <-time.After(limit):
		h.kill()
		return false
	}
}
