package direct

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// The handshake shows both sides that the other knows the run's secret, which itself does not travel:
//
//	asker   "CDhello", version, lengths and texts of run, from, to; nonce a (32 bytes)
//	holder  0 and nonce b, HMAC(secret, "holder" | hello | b | binding), or 1: refused
//	asker   HMAC(secret, "asker" | hello | b | binding)
//	holder  0, or 1: refused
//
// binding is keying material of the TLS connection, so that nobody can stand between two of them.
const (
	nonceSize = 32
	maxName   = 128
)

var helloMagic = [8]byte{'C', 'D', 'h', 'e', 'l', 'l', 'o', version}

func helloOf(run, from, to string) ([]byte, error) {
	b := helloMagic[:]
	for _, s := range []string{run, from, to} {
		if s == "" || len(s) > maxName {
			return nil, fmt.Errorf("name %q: 1 to %d bytes are allowed", s, maxName)
		}
		b = append(append(b[:len(b):len(b)], byte(len(s))), s...)
	}
	nonce := make([]byte, nonceSize)
	rand.Read(nonce) // never fails
	return append(b, nonce...), nil
}

// readHello reads at most 8 + 3 * 129 + 32 bytes.
func readHello(r io.Reader) (hello []byte, run, from, to string, err error) {
	hello = make([]byte, len(helloMagic))
	if _, err := io.ReadFull(r, hello); err != nil {
		return nil, "", "", "", err
	}
	if [8]byte(hello) != helloMagic {
		return nil, "", "", "", fmt.Errorf("hello begins with %q: %w", strings.ToValidUTF8(string(hello[:7]), "?"), ErrDamaged)
	}
	for _, s := range []*string{&run, &from, &to} {
		var n [1]byte
		if _, err := io.ReadFull(r, n[:]); err != nil {
			return nil, "", "", "", err
		}
		if n[0] == 0 || n[0] > maxName {
			return nil, "", "", "", fmt.Errorf("name of %d bytes in hello, at most %d: %w", n[0], maxName, ErrOversized)
		}
		name := make([]byte, n[0])
		if _, err := io.ReadFull(r, name); err != nil {
			return nil, "", "", "", err
		}
		*s = string(name)
		hello = append(append(hello, n[0]), name...)
	}
	nonce := make([]byte, nonceSize)
	if _, err := io.ReadFull(r, nonce); err != nil {
		return nil, "", "", "", err
	}
	return append(hello, nonce...), run, from, to, nil
}

// proof is what one side shows.
func proof(c net.Conn, secret []byte, side string, hello, nonce []byte) ([]byte, error) {
	h := hmac.New(sha256.New, secret)
	var n [4]byte
	binary.LittleEndian.PutUint32(n[:], uint32(len(hello)))
	h.Write([]byte(side))
	h.Write(n[:])
	h.Write(hello)
	h.Write(nonce)
	if t, ok := c.(*tls.Conn); ok {
		state := t.ConnectionState()
		binding, err := state.ExportKeyingMaterial("EXPORTER-counterpoint-direct", nil, 32)
		if err != nil {
			return nil, fmt.Errorf("bind the handshake to TLS: %w", err)
		}
		h.Write(binding)
	}
	return h.Sum(nil), nil
}

// greet is the asker's side.
func greet(c net.Conn, p Peer, self string, within time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	hello, err := helloOf(p.Run, self, p.Worker)
	if err != nil {
		return err
	}
	if t, ok := c.(*tls.Conn); ok {
		if err := t.Handshake(); err != nil {
			return err
		}
	}
	if _, err := c.Write(hello); err != nil {
		return err
	}
	reply := make([]byte, 1+nonceSize+sha256.Size)
	if _, err := io.ReadFull(c, reply[:1]); err != nil {
		return err
	}
	if reply[0] != 0 {
		return fmt.Errorf("worker %s is not there: %w", p.Worker, ErrRefused)
	}
	if _, err := io.ReadFull(c, reply[1:]); err != nil {
		return err
	}
	nonce := reply[1 : 1+nonceSize]
	want, err := proof(c, p.Secret, "holder", hello, nonce)
	if err != nil {
		return err
	}
	if !hmac.Equal(want, reply[1+nonceSize:]) {
		return fmt.Errorf("worker %s does not show the run's secret: %w", p.Worker, ErrRefused)
	}
	mine, err := proof(c, p.Secret, "asker", hello, nonce)
	if err != nil {
		return err
	}
	if _, err := c.Write(mine); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, reply[:1]); err != nil {
		return err
	}
	if reply[0] != 0 {
		return fmt.Errorf("worker %s does not take this one's proof: %w", p.Worker, ErrRefused)
	}
	return c.SetDeadline(time.Time{})
}

// meet is the holder's side: which worker of this process is asked, and by whom.
func (n *Node) meet(c net.Conn) (s *served, err error) {
	if err := c.SetDeadline(time.Now().Add(2 * n.o.Failure)); err != nil {
		return nil, err
	}
	if t, ok := c.(*tls.Conn); ok {
		if err := t.HandshakeContext(n.ctx); err != nil {
			return nil, fmt.Errorf("TLS: %w: %w", ErrRefused, err)
		}
	}
	hello, run, from, to, err := readHello(c)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	s = n.served[[2]string{run, to}]
	n.mu.Unlock()
	if s == nil {
		_, err := c.Write([]byte{1})
		return nil, errors.Join(fmt.Errorf("worker %.128q of run %.128q is not here: %w", to, run, ErrRefused), err)
	}
	nonce := make([]byte, nonceSize)
	rand.Read(nonce)
	mine, err := proof(c, s.secret, "holder", hello, nonce)
	if err != nil {
		return nil, err
	}
	if _, err := c.Write(append(append([]byte{0}, nonce...), mine...)); err != nil {
		return nil, err
	}
	theirs := make([]byte, sha256.Size)
	if _, err := io.ReadFull(c, theirs); err != nil {
		return nil, err
	}
	want, err := proof(c, s.secret, "asker", hello, nonce)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(want, theirs) {
		_, err := c.Write([]byte{1})
		return nil, errors.Join(fmt.Errorf("worker %.128q does not show the secret of run %s: %w", from, run, ErrRefused), err)
	}
	if _, err := c.Write([]byte{0}); err != nil {
		return nil, err
	}
	return s, c.SetDeadline(time.Time{})
}
