package credential

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
)

// The algorithms of keys.
const (
	P256    = "p256"
	Ed25519 = "ed25519"
)

// newKey makes a private key and its PEM form.
func newKey(algorithm string) (crypto.Signer, []byte, error) {
	var key crypto.Signer
	var err error
	switch algorithm {
	case P256, "":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case Ed25519:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		return nil, nil, fmt.Errorf("key algorithm %q; allowed: %s, %s", algorithm, P256, Ed25519)
	}
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// ReadKey reads the private key of a PEM file that others cannot read.
func ReadKey(name string) (crypto.Signer, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	if err := privateTo(name, info); err != nil {
		return nil, err
	}
	text, err := readFile(name)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		var key any
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return nil, fmt.Errorf("key %s is encrypted; it has to be plain, mode 600", name)
		default:
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("key %s: not a private key of a known kind", name) // the cause may quote its bytes
		}
		if signer, ok := key.(crypto.Signer); ok {
			return signer, nil
		}
		return nil, fmt.Errorf("key %s: %T cannot sign", name, key)
	}
	return nil, fmt.Errorf("%s holds no private key: a PEM block PRIVATE KEY is expected", name)
}

// writeFile writes a file as a whole or not at all. With force a file that is there is replaced.
func writeFile(name string, text []byte, mode os.FileMode, force bool) (err error) {
	if !force {
		if _, err := os.Lstat(name); err == nil {
			return fmt.Errorf("%s is there already; --force replaces it", name)
		}
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(text); err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if force {
		return os.Rename(f.Name(), name)
	}
	// A link fails where a file has come in the meantime; a rename would replace it.
	if err = os.Link(f.Name(), name); err == nil {
		err = os.Remove(f.Name())
	}
	return err
}
