package trainer

import (
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/contrastive"
	"github.com/counterpoint-ml/counterpoint/trainer/optim"
)

// Config is the part of a run that decides its numbers on a worker. It travels as JSON in the run's spec, so a
// worker needs neither the YAML nor the data.
type Config struct {
	Model     backbone.Config    `json:"model"`
	Loss      contrastive.Config `json:"loss"`
	Optimizer optim.Config       `json:"optimizer"`
	Steps     int64              `json:"steps"`
	Batch     int                `json:"batch"`
	MaxLength int                `json:"max_length"`
	Seed      uint64             `json:"seed"`
}
