package credential

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// A join token lets a worker's key be admitted, a number of times, until it expires. It is signed by the CA, so every
// coordinator can check it with ca.pem alone, and none holds a secret that makes tokens. How often it was used is in the
// Raft log.
//
//	cpj_ base64url( version 1 byte, id 16, expires 8 (Unix seconds), uses 4 ; big-endian
//	                signature of joinContext and these 29 bytes by the CA's key )
const (
	joinPrefix  = "cpj_"
	joinVersion = 1
	joinBody    = 1 + 16 + 8 + 4
	// joinContext is signed in front: what the CA's key signs for certificates never begins like it.
	joinContext = "counterpoint join token\x00"
	// maxToken bounds what is decoded.
	maxToken = 1024
)

// Join is what a join token says.
type Join struct {
	ID      string // hex; names the token in the log, and is no secret
	Expires time.Time
	Uses    int // keys that may be admitted with it
}

// JoinToken makes a token with which uses workers can join until it expires.
func (a *Authority) JoinToken(valid time.Duration, uses int) (Secret, Join, error) {
	switch {
	case valid < time.Second || valid > year:
		return Secret{}, Join{}, fmt.Errorf("expiry %v: between a second and a year is allowed", valid)
	case uses < 1 || uses > math.MaxInt32:
		return Secret{}, Join{}, fmt.Errorf("%d uses: 1 or more are needed", uses)
	}
	body := make([]byte, joinBody)
	body[0] = joinVersion
	rand.Read(body[1:17]) // never fails
	expires := time.Now().Add(valid).Truncate(time.Second)
	binary.BigEndian.PutUint64(body[17:], uint64(expires.Unix()))
	binary.BigEndian.PutUint32(body[25:], uint32(uses))
	signature, err := sign(a.key, append([]byte(joinContext), body...))
	if err != nil {
		return Secret{}, Join{}, fmt.Errorf("sign the token: %w", err)
	}
	text := joinPrefix + base64.RawURLEncoding.EncodeToString(append(body, signature...))
	return NewSecret(text), Join{hex.EncodeToString(body[1:17]), expires.UTC(), uses}, nil
}

// CheckJoin returns what a token says if one of the authorities has signed it and it has not expired. Errors are
// *RefusedError and do not quote the token.
func CheckJoin(token Secret, authorities []*x509.Certificate, now time.Time) (Join, error) {
	body, signature, err := parseJoin(token.Reveal())
	if err != nil {
		return Join{}, &RefusedError{BadToken, err}
	}
	j := Join{
		ID: hex.EncodeToString(body[1:17]), Expires: time.Unix(int64(binary.BigEndian.Uint64(body[17:])), 0).UTC(),
		Uses: int(binary.BigEndian.Uint32(body[25:])),
	}
	signed := append([]byte(joinContext), body...)
	good := false
	for _, ca := range authorities {
		good = good || verifies(ca.PublicKey, signed, signature)
	}
	switch {
	case !good:
		return Join{}, &RefusedError{BadToken, errors.New("join token: not signed by this fleet's CA; counterpoint certs token makes one")}
	case !now.Before(j.Expires):
		return j, &RefusedError{TokenExpired, fmt.Errorf("join token %.8s expired on %s; counterpoint certs token makes another", j.ID, date(j.Expires))}
	}
	return j, nil
}

// parseJoin takes a token apart.
func parseJoin(text string) (body, signature []byte, err error) {
	if len(text) > maxToken {
		return nil, nil, fmt.Errorf("join token: %d characters; at most %d are read", len(text), maxToken)
	}
	encoded, ok := strings.CutPrefix(text, joinPrefix)
	if !ok {
		return nil, nil, fmt.Errorf("join token: it begins with %s; this does not", joinPrefix)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, nil, errors.New("join token: damaged, not base64") // the library's error quotes a byte
	}
	if len(raw) <= joinBody {
		return nil, nil, fmt.Errorf("join token: %d bytes are too few; was it cut?", len(raw))
	}
	if raw[0] != joinVersion {
		return nil, nil, fmt.Errorf("join token: version %d; this build reads version %d", raw[0], joinVersion)
	}
	if uses := binary.BigEndian.Uint32(raw[25:]); uses == 0 || uses > math.MaxInt32 {
		return nil, nil, errors.New("join token: damaged, no uses")
	}
	if at := binary.BigEndian.Uint64(raw[17:]); at > 1<<40 {
		return nil, nil, errors.New("join token: damaged, it expires in no year")
	}
	return raw[:joinBody:joinBody], raw[joinBody:], nil
}

func sign(key crypto.Signer, message []byte) ([]byte, error) {
	if _, ok := key.Public().(ed25519.PublicKey); ok {
		return key.Sign(rand.Reader, message, crypto.Hash(0))
	}
	sum := sha256.Sum256(message)
	return key.Sign(rand.Reader, sum[:], crypto.SHA256)
}

func verifies(public crypto.PublicKey, message, signature []byte) bool {
	switch key := public.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(key, message, signature)
	case *ecdsa.PublicKey:
		sum := sha256.Sum256(message)
		return ecdsa.VerifyASN1(key, sum[:], signature)
	}
	return false
}
