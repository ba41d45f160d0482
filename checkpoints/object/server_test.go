package object

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
	"github.com/counterpoint-ml/counterpoint/checkpoints/object/s3test"
	"github.com/counterpoint-ml/counterpoint/checkpoints/storetest"
)

func open(t testing.TB, where string, o Options) *Store {
	t.Helper()
	if o.Cache == "" {
		o.Cache = t.TempDir()
	}
	s, err := Open(where, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestServerConformance runs every store's suite over a real server: parts tagged by their MD5 and, on another server, by
// other sums; with S3's checksum headers and without.
func TestServerConformance(t *testing.T) {
	for name, c := range map[string]struct {
		args  []string
		query string
	}{"MD5 tags": {}, "other tags": {args: []string{"--data-integrity-etag"}}, "no checksum headers": {query: "checksums=false"}} {
		t.Run(name, func(t *testing.T) {
			server := s3test.Start(t, t.TempDir(), c.args...)
			count := 0
			storetest.Run(t, func(t *testing.T) storetest.Lab {
				count++
				prefix := fmt.Sprintf("lab/%d", count)
				return storetest.Lab{
					Store: open(t, server.URL(prefix, c.query), Options{}), Other: open(t, server.URL(prefix, c.query), Options{}),
					Change: func(t *testing.T, name, file string, change func([]byte) []byte) {
						storetest.ChangeFile(t, server.Path(prefix, name, file), change)
					},
				}
			})
		})
	}
}

// big returns a snapshot of about that many MB: files that go in parts.
func big(step int64, mb int) *checkpoints.Snapshot { return storetest.Snapshot(step, mb<<20/4/3) }

func write(t *testing.T, s *Store, snapshot *checkpoints.Snapshot) *checkpoints.Manifest {
	t.Helper()
	m, err := (&checkpoints.Series{Store: s}).Write(t.Context(), snapshot)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func sound(t *testing.T, s *Store, name string, m *checkpoints.Manifest) {
	t.Helper()
	if got, err := s.Inspect(t.Context(), name, true); err != nil || got.Digest() != m.Digest() {
		t.Fatalf("Inspect(%s) = %v, want it sound", name, err)
	}
	dir, err := s.Fetch(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.CheckFiles(t.Context(), dir); err != nil {
		t.Error(err)
	}
}

// TestResume gives up a 200 MB upload in its middle; another machine finishes it and sends only the rest.
func TestResume(t *testing.T) {
	for _, tags := range []string{"MD5", "other"} {
		t.Run(tags, func(t *testing.T) {
			args := map[string][]string{"other": {"--data-integrity-etag"}}[tags]
			server := s3test.Start(t, t.TempDir(), args...)
			o := Options{PartSize: 8 << 20}
			one, two := open(t, server.URL("run", ""), o), open(t, server.URL("run", ""), o)
			snapshot := big(1, 200)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				for one.sent.Load() < 80<<20 && ctx.Err() == nil {
					time.Sleep(time.Millisecond)
				}
				cancel()
			}()
			if _, err := (&checkpoints.Series{Store: one}).Write(ctx, snapshot); !errors.Is(err, context.Canceled) {
				t.Fatalf("Write() given up = %v, want context.Canceled", err)
			}
			if all, err := two.List(t.Context()); err != nil || len(all) > 0 {
				t.Fatalf("List() = %v, %v, want nothing of a checkpoint that is being uploaded", all, err)
			}
			if got := one.Waiting(); !slices.Equal(got, []string{checkpoints.Name(1)}) {
				t.Errorf("Waiting() = %v, want step 1", got)
			}
			peak := watchMemory()
			began := time.Now()
			m := write(t, two, snapshot)
			seconds := time.Since(began).Seconds()
			total := one.sent.Load() + two.sent.Load()
			size := int64(0)
			for _, f := range m.Files {
				size += f.Size
			}
			t.Logf("%d MB: the first sent %d MB in parts, the second %d in %.1f s; heap grew by %d MB at most", size>>20, one.sent.Load()>>20, two.sent.Load()>>20, seconds, peak()>>20)
			if limit := size + int64(o.PartSize)*int64(one.o.Parallel); total > limit {
				t.Errorf("%d bytes were sent in parts, want at most %d: the parts that were there and those in flight", total, limit)
			}
			if grown := peak(); grown > 48<<20 {
				t.Errorf("the heap grew by %d MB, want a bounded upload", grown>>20)
			}
			sound(t, open(t, server.URL("run", ""), o), checkpoints.Name(1), m)
			if left := two.uploads(t.Context(), ""); len(left) > 0 {
				t.Errorf("%d uploads are left over", len(left))
			}
		})
	}
}

// watchMemory returns what tells the most that the heap in use has grown by since.
func watchMemory() (peak func() int64) {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	base := int64(stats.HeapAlloc)
	var most atomic.Int64
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-time.After(5 * time.Millisecond):
			case <-stop:
				return
			}
			var stats runtime.MemStats
			runtime.ReadMemStats(&stats)
			most.Store(max(most.Load(), int64(stats.HeapAlloc)-base))
		}
	}()
	ended := false
	return func() int64 {
		if !ended {
			ended = true
			close(stop)
		}
		return most.Load()
	}
}

// TestServerKilled kills the server in the middle of an upload. Started again, it has the rest at once; left dead, the
// checkpoint stays on this machine, and the next try sends only what is missing.
func TestServerKilled(t *testing.T) {
	t.Run("and started again", func(t *testing.T) {
		server := s3test.Start(t, t.TempDir())
		s := open(t, server.URL("run", ""), Options{PartSize: 5 << 20})
		go func() {
			for s.sent.Load() < 30<<20 {
				time.Sleep(time.Millisecond)
			}
			server.Kill()
			time.Sleep(500 * time.Millisecond)
			server.Restart()
		}()
		m := write(t, s, big(1, 60))
		sound(t, s, checkpoints.Name(1), m)
		if left := s.Waiting(); len(left) > 0 {
			t.Errorf("Waiting() = %v, want none", left)
		}
	})
	t.Run("and left dead", func(t *testing.T) {
		server := s3test.Start(t, t.TempDir())
		s := open(t, server.URL("run", ""), Options{PartSize: 5 << 20, Patience: time.Second})
		go func() {
			for s.sent.Load() < 30<<20 {
				time.Sleep(time.Millisecond)
			}
			server.Kill()
		}()
		snapshot := big(1, 60)
		_, err := (&checkpoints.Series{Store: s}).Write(t.Context(), snapshot)
		if !errors.Is(err, checkpoints.ErrUnreachable) || !strings.Contains(err.Error(), s.Spool()) || !strings.Contains(err.Error(), server.Address) {
			t.Fatalf("Write() = %v, want checkpoints.ErrUnreachable that names the spool and the endpoint", err)
		}
		if got := s.Waiting(); !slices.Equal(got, []string{checkpoints.Name(1)}) {
			t.Errorf("Waiting() = %v, want step 1", got)
		}
		server.Restart()
		if err := s.Upload(t.Context(), checkpoints.Name(1)); err != nil {
			t.Fatal(err)
		}
		m, err := s.Inspect(t.Context(), checkpoints.Name(1), true)
		if err != nil {
			t.Fatal(err)
		}
		if size, limit := m.Files[checkpoints.OptimizerName].Size+m.Files[checkpoints.ModelName].Size, int64(4*5<<20); s.sent.Load() > size+limit {
			t.Errorf("%d bytes were sent in parts of %d, want each once but for those in flight", s.sent.Load(), size)
		}
		if left := s.Waiting(); len(left) > 0 {
			t.Errorf("Waiting() = %v, want none", left)
		}
	})
	t.Run("hung", func(t *testing.T) {
		server := s3test.Start(t, t.TempDir())
		s := open(t, server.URL("run", ""), Options{Patience: time.Second, Stall: 300 * time.Millisecond})
		m := write(t, s, storetest.Snapshot(1, 64))
		if err := server.Process().Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err := (&checkpoints.Series{Store: s}).Write(t.Context(), storetest.Snapshot(2, 64))
		if took := time.Since(began); !errors.Is(err, checkpoints.ErrUnreachable) || took > 30*time.Second {
			t.Errorf("Write() to a server that hangs = %v after %v, want checkpoints.ErrUnreachable soon", err, took)
		}
		if _, _, err := (&checkpoints.Series{Store: s}).Newest(t.Context()); !errors.Is(err, checkpoints.ErrUnreachable) {
			t.Errorf("Newest() of a server that hangs = %v, want checkpoints.ErrUnreachable", err)
		}
		if err := server.Process().Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		sound(t, s, checkpoints.Name(1), m)
	})
}

// TestBadNetwork puts a proxy between that cuts every n-th connection, is slow, and flips bits of what is sent.
func TestBadNetwork(t *testing.T) {
	server := s3test.Start(t, t.TempDir())
	proxy := newProxy(t, server.Address)
	for name, fault := range map[string]faults{
		"cut":     {cutEvery: 3, cutAfter: 1 << 20},
		"slow":    {bytesPerSecond: 24 << 20},
		"flipped": {flipEvery: 4, flipAt: 512 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			proxy.set(fault)
			s := open(t, s3test.URL(proxy.address, name, ""), Options{PartSize: 5 << 20})
			began := time.Now()
			m := write(t, s, big(1, 40))
			t.Logf("written in %v, %d faults", time.Since(began), proxy.count.Load())
			if name != "slow" && proxy.count.Load() == 0 {
				t.Error("no fault happened")
			}
			proxy.set(fault)
			other := open(t, s3test.URL(proxy.address, name, ""), Options{})
			sound(t, other, checkpoints.Name(1), m)
		})
	}
}

// TestFullDisk lets the server's disk run full: the checkpoint is not seen, those before it stay, and when one was removed
// the next fits.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64m"); err != nil {
		t.Skipf("a tmpfs of 64 MB needs root: %v", err)
	}
	var server *s3test.Server
	t.Cleanup(func() {
		if server != nil {
			server.Kill()
		}
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	server = s3test.Start(t, dir, "--sidecar", t.TempDir())
	s := open(t, server.URL("run", ""), Options{PartSize: 5 << 20, Patience: time.Second})
	one := write(t, s, big(1, 12))
	two := big(2, 60)
	_, err := (&checkpoints.Series{Store: s}).Write(t.Context(), two)
	if err == nil || !strings.Contains(err.Error(), server.Address) {
		t.Fatalf("Write() to a full disk = %v, want an error that names the endpoint", err)
	}
	t.Log(err)
	if all, err := s.List(t.Context()); err != nil || !slices.Equal(all, []string{checkpoints.Name(1)}) {
		t.Errorf("List() = %v, %v, want step 1 alone", all, err)
	}
	sound(t, open(t, server.URL("run", ""), Options{}), checkpoints.Name(1), one)
	if err := s.Remove(t.Context(), checkpoints.Name(2)); err != nil { // what was begun
		t.Fatal(err)
	}
	sound(t, s, checkpoints.Name(3), write(t, s, big(3, 20)))
}

// TestRefusals: errors name the bucket, the key, the endpoint and what to do, and never a secret.
func TestRefusals(t *testing.T) {
	server := s3test.Start(t, t.TempDir())
	for name, c := range map[string]struct {
		where  string
		change func(t *testing.T)
		want   []string
	}{
		"wrong secret": {server.URL("p", ""), func(t *testing.T) { t.Setenv("AWS_SECRET_ACCESS_KEY", "open-sesame") }, []string{s3test.Bucket, server.Address, "AWS_SECRET_ACCESS_KEY"}},
		"unknown key":  {server.URL("p", ""), func(t *testing.T) { t.Setenv("AWS_ACCESS_KEY_ID", "nobody") }, []string{s3test.Bucket, server.Address, "AWS_ACCESS_KEY_ID"}},
		"no bucket":    {strings.Replace(server.URL("p", ""), s3test.Bucket, "elsewhere", 1), func(*testing.T) {}, []string{"s3://elsewhere", server.Address, "create the bucket"}},
		"https":        {strings.Replace(server.URL("p", ""), "http://", "https://", 1), func(*testing.T) {}, []string{server.Address, "endpoint=http://"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.change(t)
			s := open(t, c.where, Options{Patience: time.Millisecond})
			_, _, newest := (&checkpoints.Series{Store: s}).Newest(t.Context())
			_, written := (&checkpoints.Series{Store: s}).Write(t.Context(), storetest.Snapshot(1, 64))
			for what, err := range map[string]error{"Check": s.Check(t.Context()), "Newest": newest, "Write": written} {
				if !errors.Is(err, checkpoints.ErrUnreachable) || errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s() = %v, want checkpoints.ErrUnreachable", what, err)
					continue
				}
				for _, want := range c.want {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%s() = %v, want %q in it", what, err, want)
					}
				}
				for _, secret := range []string{server.Secret, "open-sesame"} {
					if strings.Contains(err.Error(), secret) {
						t.Errorf("%s() tells the secret: %v", what, err)
					}
				}
			}
		})
	}
	s := open(t, server.URL("p", ""), Options{})
	if err := s.Check(t.Context()); err != nil {
		t.Errorf("Check() = %v, want none", err)
	}
	if _, err := os.Stat(server.Path("p", probeName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Check() leaves its probe: %v", err)
	}
	other := storetest.Snapshot(1, 64)
	write(t, s, other)
	other.Identity = "another"
	if _, err := (&checkpoints.Series{Store: s}).Write(t.Context(), other); err == nil || !strings.Contains(err.Error(), "another run") {
		t.Errorf("Write() over another run's checkpoint = %v, want a refusal", err)
	}
	if _, err := os.Stat(filepath.Join(s.Spool(), checkpoints.Name(1))); err != nil {
		t.Error(err)
	}
}
