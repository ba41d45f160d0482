package safetensors

import (
	"fmt"
	"os"
)

func readFile(path string) ([]byte, func() error, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("safetensors: %w", err)
	}
	return b, func() error { return nil }, nil
}
