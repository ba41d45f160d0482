package checkpoints_test

import (
	"path/filepath"
	"testing"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
	"github.com/counterpoint-ml/counterpoint/checkpoints/storetest"
)

func TestLocalConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Lab {
		dir := t.TempDir()
		return storetest.Lab{
			Store: checkpoints.NewLocal(dir), Other: checkpoints.NewLocal(dir),
			Change: func(t *testing.T, name, file string, change func([]byte) []byte) {
				storetest.ChangeFile(t, filepath.Join(dir, name, file), change)
			},
		}
	})
}
