// Package isa says which set of hand-written kernels the CPU device runs.
//
// The level is chosen once, at start, from the processor; the environment variable COUNTERPOINT_KERNELS lowers it
// (tests run every level on one machine; a fleet of mixed machines runs the level that all of them have).
package isa

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
)

// Env is the environment variable that lowers the level.
const Env = "COUNTERPOINT_KERNELS"

// Level is a set of kernels. Levels are ordered: a machine that runs one runs every lower one.
type Level int32

// The levels, lowest first.
const (
	Portable Level = iota // plain Go, any processor
	AVX2                  // amd64 with AVX2 and FMA
	AVX512                // amd64 with AVX-512 F, BW, DQ and VL
)

var names = [...]string{Portable: "portable", AVX2: "avx2", AVX512: "avx512"}

// String is the word that Env takes: portable, avx2 or avx512.
func (l Level) String() string {
	if l < 0 || int(l) >= len(names) {
		return fmt.Sprintf("isa.Level(%d)", int32(l))
	}
	return names[l]
}

// Parse reads a level's word. The error lists the words allowed.
func Parse(word string) (Level, error) {
	if i := slices.Index(names[:], word); i >= 0 {
		return Level(i), nil
	}
	return Portable, fmt.Errorf("kernels %q: not a level; allowed: %s", word, strings.Join(names[:], ", "))
}

var (
	active    atomic.Int32
	configErr error
)

func init() {
	level, err := choose(os.Getenv(Env), Best())
	configErr = err
	active.Store(int32(level))
}

// choose is the level for an Env of word on a processor whose best level is best.
func choose(word string, best Level) (Level, error) {
	if word == "" {
		return best, nil
	}
	level, err := Parse(word)
	if err != nil {
		return best, fmt.Errorf("environment %s: %w", Env, err)
	}
	if level > best {
		return best, fmt.Errorf("environment %s: kernels %q: this processor runs %s at most; allowed: %s",
			Env, word, best, strings.Join(names[:best+1], ", "))
	}
	return level, nil
}

// Check returns the error of a COUNTERPOINT_KERNELS that could not be honoured. A program calls it before it
// computes anything: until then Active is the processor's best level.
func Check() error { return configErr }

// Active is the level in use.
func Active() Level { return Level(active.Load()) }

// Best is the highest level this processor runs.
func Best() Level { return detect() }

// Available lists the levels this processor runs, lowest first.
func Available() []Level {
	var levels []Level
	for l := Portable; l <= Best(); l++ {
		levels = append(levels, l)
	}
	return levels
}

// Cleanup is the part of testing.TB that Use needs.
type Cleanup interface {
	Helper()
	Cleanup(func())
}

// Use runs the rest of a test, and only that, under level; the test must not be parallel. It panics on a level that
// is not Available.
//
//	for _, level := range isa.Available() {
//		t.Run(level.String(), func(t *testing.T) { isa.Use(t, level); ... })
//	}
func Use(t Cleanup, level Level) {
	t.Helper()
	if level < Portable || level > Best() {
		panic(fmt.Sprintf("isa: level %s is not available on this processor", level))
	}
	old := active.Swap(int32(level))
	t.Cleanup(func() { active.Store(old) })
}
