package object

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
	"github.com/counterpoint-ml/counterpoint/checkpoints/storetest"
)

func clearEnvironment(t *testing.T) {
	for _, name := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3",
		"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD",
	} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "none"))
}

func TestParse(t *testing.T) {
	clearEnvironment(t)
	for where, want := range map[string]struct {
		prefix, endpoint, region string
		pathStyle, checksums     bool
		spool                    int64
	}{
		"s3://b":            {"", "https://s3.amazonaws.com", "", false, true, defaultSpool << 30},
		"s3://b/runs//one/": {"runs/one", "https://s3.amazonaws.com", "", false, true, defaultSpool << 30},
		"s3://b/p?endpoint=http://m:9000&spool=2":                                   {"p", "http://m:9000", "us-east-1", true, true, 2 << 30},
		"s3://b/p?endpoint=m.example&region=eu":                                     {"p", "https://m.example", "eu", true, true, defaultSpool << 30},
		"s3://b/p?endpoint=https://storage.googleapis.com":                          {"p", "https://storage.googleapis.com", "us-east-1", false, false, defaultSpool << 30},
		"s3://b/p?endpoint=http://127.0.0.1:1&path_style=false&checksums=0&spool=0": {"p", "http://127.0.0.1:1", "us-east-1", false, false, 0},
	} {
		p, err := Parse(where)
		if err != nil {
			t.Errorf("Parse(%q): %v", where, err)
			continue
		}
		got := want
		got.prefix, got.endpoint, got.region, got.pathStyle, got.checksums, got.spool = p.Prefix, p.Endpoint.String(), p.Region, p.PathStyle, p.Checksums, p.Spool
		if got != want {
			t.Errorf("Parse(%q) = %+v, want %+v", where, got, want)
		}
		path := p.of(checkpoints.Name(3))
		again, err := Parse(path)
		if store, name := Split(path); name != checkpoints.Name(3) || err != nil || again.Prefix != p.key(checkpoints.Name(3)) {
			t.Errorf("Split(%q) = %q, %q; Parse() = %+v, %v", path, store, name, again, err)
		} else if back, err := Parse(store); err != nil || back.String() != p.String() || back.Endpoint.String() != p.Endpoint.String() {
			t.Errorf("Parse(Split(%q)) = %v, %v, want %v", path, back, err, p)
		}
	}
	t.Setenv("AWS_ENDPOINT_URL", "http://all:1")
	t.Setenv("AWS_ENDPOINT_URL_S3", "http://s3:1")
	if p, err := Parse("s3://b"); err != nil || p.Endpoint.Host != "s3:1" {
		t.Errorf("Parse() with AWS_ENDPOINT_URL_S3 = %v, %v", p.Endpoint, err)
	}
}

func TestParseRefuses(t *testing.T) {
	clearEnvironment(t)
	for where, want := range map[string]string{
		"s3://":                           "no bucket",
		"s3:///p":                         "no bucket",
		"s3://host:9000/b":                "?endpoint=",
		"gs://b/p":                        "scheme",
		"s3://b/p?endpont=x":              `did you mean "endpoint"`,
		"s3://b/p?checksums=perhaps":      "true and false",
		"s3://b/p?spool=much":             "a number of GB",
		"s3://b/p?region=a&region=b":      "2 times",
		"s3://b/p?endpoint=ftp://h":       "https://HOST:PORT",
		"s3://b/p?endpoint=http://h/b":    "https://HOST:PORT",
		"s3://b/p#x":                      "#",
		"s3://%zz":                        "invalid",
		"s3://AKIA:hush@b/p":              "AWS_SECRET_ACCESS_KEY",
		"s3://b/p?secret_key=hush":        "AWS_SECRET_ACCESS_KEY",
		"s3://b/p?aws_access_key=hush":    "AWS_SECRET_ACCESS_KEY",
		"s3://b?endpoint=http://u:hush@h": "AWS_SECRET_ACCESS_KEY",
	} {
		_, err := Parse(where)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q) = %v, want an error with %q", where, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("Parse(%q) tells the secret: %v", where, err)
		}
	}
	for where, want := range map[string]string{"/a/b": "/a/b", "c": "c", "file:///a/b": "/a/b", "s3://b": ""} {
		if got, err := Folder(where); err != nil || got != want {
			t.Errorf("Folder(%q) = %q, %v, want %q", where, got, err, want)
		}
	}
	for _, where := range []string{"file://a/b", "file://", "gs://b"} {
		if got, err := Folder(where); err == nil {
			t.Errorf("Folder(%q) = %q, want an error", where, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"s3://b/p?endpoint=http://m:9000&spool=2", "s3://a:b@c", "s3://b/step-00000001?x=%zz"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, where string) {
		p, err := Parse(where)
		if err != nil {
			return
		}
		again, err := Parse(p.String())
		if err != nil || again.String() != p.String() || again.Prefix != p.Prefix {
			t.Errorf("Parse(%q) = %v, written again %v, %v", where, p, again, err)
		}
	})
}

// closedPort returns an address where nobody listens.
func closedPort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// A store that nobody serves: the checkpoint is whole on this machine and waits; what is said names everything but secrets.
func TestUnreachable(t *testing.T) {
	clearEnvironment(t)
	address := closedPort(t)
	where := "s3://bucket/prefix?endpoint=http://" + address
	s := open(t, where, Options{Patience: 50 * time.Millisecond})
	series := &checkpoints.Series{Store: s}
	if err := s.Check(t.Context()); !errors.Is(err, errNoCredentials) || !strings.Contains(err.Error(), "AWS_ACCESS_KEY_ID") {
		t.Errorf("Check() without credentials = %v, want one that names AWS_ACCESS_KEY_ID", err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "somebody")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "hush")
	s = open(t, where, Options{Patience: 50 * time.Millisecond})
	series.Store = s
	want := storetest.Snapshot(3, 64)
	_, err := series.Write(t.Context(), want)
	for _, word := range []string{"s3://bucket/prefix/step-00000003/manifest.json", address, s.Spool()} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("Write() = %v, want %q in it", err, word)
		}
	}
	if !errors.Is(err, checkpoints.ErrUnreachable) || strings.Contains(err.Error(), "hush") {
		t.Errorf("Write() = %v, want ErrUnreachable without the secret", err)
	}
	if got := s.Waiting(); !slices.Equal(got, []string{checkpoints.Name(3)}) {
		t.Errorf("Waiting() = %v, want step 3", got)
	}
	if _, err := checkpoints.Load(t.Context(), filepath.Join(s.Spool(), checkpoints.Name(3))); err != nil {
		t.Errorf("the checkpoint that waits: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.List(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("List() that is given up = %v, want context.DeadlineExceeded", err)
	}
}

// The spool keeps below its bound: what was uploaded goes first, the newest that waits never.
func TestSpoolBound(t *testing.T) {
	dir := t.TempDir()
	s := newSpool(dir, 0)
	one := int64(0)
	put := func(step int64, waits bool) {
		if waits {
			if err := s.mark(checkpoints.Name(step)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := (&checkpoints.Series{Store: s}).Write(t.Context(), storetest.Snapshot(step, 64)); err != nil {
			t.Fatal(err)
		}
		old := time.Now().Add(-time.Hour + time.Duration(step)*time.Second)
		if err := os.Chtimes(s.Path(checkpoints.Name(step)), old, old); err != nil {
			t.Fatal(err)
		}
		one = folderSize(s.Path(checkpoints.Name(step)))
	}
	left := func() (steps []int64) {
		names, err := s.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			step, _ := checkpoints.ParseName(name)
			steps = append(steps, step)
		}
		slices.Sort(steps)
		return steps
	}
	for step := range int64(6) {
		put(step, step%2 == 1)
	}
	for _, c := range []struct {
		room int64 // checkpoints
		want []int64
	}{{6, []int64{0, 1, 2, 3, 4, 5}}, {4, []int64{1, 3, 4, 5}}, {2, []int64{3, 5}}, {0, []int64{5}}} {
		s.bound = c.room*one + one/2
		if s.evict(t.Context(), ""); !slices.Equal(left(), c.want) {
			t.Errorf("room for %d: %v are left, want %v", c.room, left(), c.want)
		}
	}
	put(6, false)
	s.evict(t.Context(), checkpoints.Name(6))
	if got := left(); !slices.Equal(got, []int64{5, 6}) {
		t.Errorf("what is in use is gone: %v are left, want 5 and 6", got)
	}
	s.uploaded(checkpoints.Name(6))
	if s.evict(t.Context(), ""); len(s.waiting()) != 0 || len(left()) != 0 {
		t.Errorf("after an upload %v are left and %v wait, want none", left(), s.waiting())
	}
	put(7, false)
	store := &Store{spool: s}
	if err := store.Pin(checkpoints.Name(7)); err != nil {
		t.Fatal(err)
	}
	if s.evict(t.Context(), ""); !slices.Equal(left(), []int64{7}) {
		t.Errorf("what this process uses is gone: %v are left", left())
	}
}
