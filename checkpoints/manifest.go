package checkpoints

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Manifest says what a checkpoint is and what its files must be. It is written last and covers itself, so that a
// change of any single bit of a checkpoint shows.
type Manifest struct {
	Format   int                 `json:"format"`
	Step     int64               `json:"step"`
	Origin                       //
	Files    map[string]Checksum `json:"files"`
	Checksum string              `json:"checksum"` // SHA-256 of this file with the checksum left empty
}

// Checksum is what a file must be.
type Checksum struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// manifestFormat is the version of the layout that this code writes.
const manifestFormat = 1

// maxManifest bounds what is read of a manifest.json.
const maxManifest = 16 << 20

// Digest identifies the checkpoint: the coordinator commits it.
func (m *Manifest) Digest() string { return m.Checksum }

// seal computes the checksum and returns the file's content.
func (m *Manifest) seal() ([]byte, error) {
	m.Checksum = ""
	text, err := m.encode()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	m.Checksum = hex.EncodeToString(sum[:])
	return m.encode()
}

// encode is canonical: keys in fixed order, maps sorted.
func (m *Manifest) encode() ([]byte, error) {
	text, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", ManifestName, err)
	}
	return append(text, '\n'), nil
}

// ParseManifest accepts only the bytes that seal writes: encoding/json alone would overlook a flipped letter case.
func ParseManifest(text []byte) (*Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, err
	}
	if m.Format != manifestFormat {
		return nil, fmt.Errorf("format %d, this version reads %d", m.Format, manifestFormat)
	}
	claimed := m.Checksum
	again, err := m.seal()
	if err != nil {
		return nil, err
	}
	if m.Checksum != claimed || !bytes.Equal(again, text) {
		return nil, errors.New("the manifest does not match its own checksum")
	}
	if m.Step < 0 || len(m.Files) == 0 {
		return nil, fmt.Errorf("step %d, %d files", m.Step, len(m.Files))
	}
	for name := range m.Files {
		if !PlainName(name) || name == ManifestName {
			return nil, fmt.Errorf("file name %q is not allowed", name)
		}
	}
	return &m, nil
}

// PlainName reports whether name is a file of the folder itself.
func PlainName(name string) bool {
	return name != "" && name[0] != '.' && !strings.ContainsAny(name, "/\\:\x00")
}
