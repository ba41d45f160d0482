//go:build !unix

package safetensors

// mapFile reads the whole file: this system has no memory maps that we use.
func mapFile(path string) ([]byte, func() error, error) { return readFile(path) }
