//go:build !unix

package consensus

import (
	"errors"
	"os"
)

var errHeld = errors.New("held by another process")

// exclusive has no lock here that ends with the process, and refuses to go without.
func exclusive(*os.File) error { return errors.New("no file locks on this platform") }
