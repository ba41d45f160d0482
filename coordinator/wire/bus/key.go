package bus

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nats-io/nkeys"

	"github.com/counterpoint-ml/counterpoint/coordinator/credential"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// Key is a worker's own: an nkey, Ed25519. Servers and coordinators know its public half only, and what that may do
// follows from the run that it is assigned to.
type Key struct {
	pair   nkeys.KeyPair
	public string
}

// NewKey makes a key.
func NewKey() (*Key, error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return keyOf(pair)
}

func keyOf(pair nkeys.KeyPair) (*Key, error) {
	public, err := pair.PublicKey()
	if err != nil {
		return nil, err
	}
	return &Key{pair, public}, nil
}

// LoadKey reads the seed in a file, and makes one, with mode 0600, when there is no file.
func LoadKey(file string) (*Key, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return saveKey(file)
	}
	if err != nil {
		return nil, fmt.Errorf("worker's key: %w", err)
	}
	defer clear(text)
	if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("worker's key: %s can be read by others (mode %04o); chmod 600 %[1]s, or remove it for a new one", file, info.Mode().Perm())
	}
	pair, err := nkeys.FromSeed(bytes.Clone(bytes.TrimSpace(text))) // it keeps what it is given
	if err != nil {                                                 // the cause is left out: it may say something of the seed
		return nil, fmt.Errorf("worker's key: %s holds no nkey seed of a user; remove it for a new one, which has to be admitted", file)
	}
	return keyOf(pair)
}

func saveKey(file string) (*Key, error) {
	k, err := NewKey()
	if err != nil {
		return nil, err
	}
	seed, err := k.pair.Seed()
	if err != nil {
		return nil, err
	}
	text := append(bytes.Clone(seed), '\n')
	defer clear(text)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, fmt.Errorf("worker's key: %w", err)
	}
	// Written whole beside and linked: of two processes that begin at once one makes the key, and the other reads it.
	f, err := os.CreateTemp(filepath.Dir(file), ".key-*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("worker's key: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, fmt.Errorf("worker's key: write %s: %w", f.Name(), err)
	}
	switch err := os.Link(f.Name(), file); {
	case errors.Is(err, fs.ErrExist):
		return LoadKey(file)
	case err != nil:
		return nil, fmt.Errorf("worker's key: %w", err)
	}
	return k, nil
}

// Public returns the public half, as servers know it.
func (k *Key) Public() string { return k.public }

// sign signs with the key.
func (k *Key) sign(b []byte) ([]byte, error) { return k.pair.Sign(b) }

// helloContext is signed in front of a hello's text: a nonce that a server makes up never begins like it.
const helloContext = "counterpoint hello\x00"

// introduce signs a hello, so that the leader knows whose it is wherever it came in, and adds the join token.
func (k *Key) introduce(m *wire.Hello, token credential.Secret) error {
	m.Key, m.Token = k.public, token.Reveal()
	var err error
	m.Signature, err = k.sign(helloText(m))
	return err
}

// helloText is what a hello's signature is over: who it is and where it is reached.
func helloText(m *wire.Hello) []byte {
	return fmt.Appendf(nil, "%s%q %q %q %q", helloContext, m.Worker, m.Name, m.Connection, m.Address)
}

// CheckHello returns an error unless a hello is signed by the key that it names.
func CheckHello(m *wire.Hello) error {
	if err := verify(m.Key, helloText(m), m.Signature); err != nil {
		return &credential.RefusedError{Reason: credential.BadSignature, Err: fmt.Errorf("hello of %.64q: %w", m.Worker, err)}
	}
	return nil
}

func verify(public string, text, signature []byte) error {
	if !nkeys.IsValidPublicUserKey(public) {
		return fmt.Errorf("%.64q is no public nkey of a user", public)
	}
	pair, err := nkeys.FromPublicKey(public)
	if err != nil {
		return err
	}
	if err := pair.Verify(text, signature); err != nil {
		return fmt.Errorf("the signature is not by key %.64s", public)
	}
	return nil
}
