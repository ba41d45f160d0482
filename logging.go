package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// logger writes text lines of at least a level.
func logger(w io.Writer, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q; allowed: debug, info, warn, error", level)
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})), nil
}

// connectionName is unique: the coordinator tells a worker's end by its connection's.
func connectionName(name string) string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // it never fails
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, name)
	return clean[:min(len(clean), 40)] + "-" + hex.EncodeToString(b[:])
}

// terminal reports whether w is one.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// keepBytes is the memory that each of n workers may keep activations in: half of what the machine has now, shared.
func keepBytes(n int) int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 1 << 30
	}
	free := int64(info.Freeram+info.Bufferram) * int64(info.Unit)
	return free / 2 / int64(max(n, 1))
}
