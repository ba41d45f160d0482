// Package s3test starts a real S3-compatible server, Versity's gateway over a folder, for tests of stores and of runs.
package s3test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// Env names the server's program; `make test-s3` builds it and sets this.
const Env = "COUNTERPOINT_S3_SERVER"

// Bucket is the one that every server has.
const Bucket = "checkpoints"

// Server is a server on a free loopback port.
type Server struct {
	Dir            string // objects lie below Dir/Bucket under their keys
	Address        string
	Access, Secret string // made for this server
	args           []string
	t              testing.TB
	mu             sync.Mutex
	cmd            *exec.Cmd
	log            bytes.Buffer
}

// Start starts a server over dir, with further flags of versitygw's posix back end, and a bucket in it. AWS's environment
// names its credentials until the test ends. Without the server's program the test is skipped.
func Start(t testing.TB, dir string, args ...string) *Server {
	t.Helper()
	if os.Getenv(Env) == "" {
		t.Skipf("%s is not set: make test-s3 builds an S3-compatible server and runs this test against it", Env)
	}
	s := &Server{Dir: dir, Access: secret(t), Secret: secret(t), args: args, t: t}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Address = l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", s.Access)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s.Secret)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	for _, name := range []string{"AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"} {
		t.Setenv(name, "")
	}
	s.Restart()
	t.Cleanup(s.Kill)
	return s
}

func secret(t testing.TB) string {
	b := make([]byte, 12)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b)
}

// URL returns the URL of a store in the server's bucket; query may be "".
func (s *Server) URL(prefix, query string) string { return URL(s.Address, prefix, query) }

// URL is Server.URL of another address, such as a proxy's.
func URL(address, prefix, query string) string {
	if query != "" {
		query = "&" + query
	}
	return fmt.Sprintf("s3://%s/%s?endpoint=http://%s%s", Bucket, prefix, address, query)
}

// Path returns where an object lies on the disk.
func (s *Server) Path(key ...string) string {
	return filepath.Join(append([]string{s.Dir, Bucket}, key...)...)
}

// Process returns the running server.
func (s *Server) Process() *os.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cmd.Process
}

// Kill ends the server at once, as kill -9 does.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// Restart starts the server, again over what it had, and waits until it answers.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cmd = exec.Command(os.Getenv(Env), append([]string{"--port", s.Address, "--quiet", "posix"}, append(s.args, s.Dir)...)...)
	s.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+s.Access, "ROOT_SECRET_KEY="+s.Secret)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	client, err := minio.New(s.Address, &minio.Options{Creds: credentials.NewStaticV4(s.Access, s.Secret, ""), Region: "us-east-1", MaxRetries: 1})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		err = client.MakeBucket(ctx, Bucket, minio.MakeBucketOptions{})
		var answer minio.ErrorResponse
		if err == nil || errors.As(err, &answer) && answer.StatusCode == 409 {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			s.t.Fatalf("the S3 server does not start: %v\n%s", err, s.log.Bytes())
		}
	}
}
