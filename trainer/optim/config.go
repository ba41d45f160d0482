// Package optim has AdamW, the learning-rate schedules, clipping and the parameter digest: everything that
// happens to parameters after the gradient's sum is known, in one fixed order of IEEE float32 operations.
package optim

// Schedule is train.schedule.
type Schedule struct {
	Peak   float64 `yaml:"peak" json:"peak"`
	Warmup int64   `yaml:"warmup" json:"warmup"`                   // steps; the first step's rate is peak/warmup, not zero
	Decay  string  `yaml:"decay,omitempty" json:"decay,omitempty"` // linear (default) | cosine | constant
	Floor  float64 `yaml:"floor,omitempty" json:"floor,omitempty"` // the decay's last value as a share of peak
}

// Config is the optimizer of a run.
type Config struct {
	Schedule    Schedule `yaml:"schedule" json:"schedule"`
	Clip        float64  `yaml:"clip,omitempty" json:"clip,omitempty"` // largest global L2 norm; 0 = no clipping
	Beta1       float64  `yaml:"beta1,omitempty" json:"beta1,omitempty"`
	Beta2       float64  `yaml:"beta2,omitempty" json:"beta2,omitempty"`
	Epsilon     float64  `yaml:"epsilon,omitempty" json:"epsilon,omitempty"`
	WeightDecay float64  `yaml:"weight_decay,omitempty" json:"weight_decay,omitempty"` // decoupled, on two-dimensional tensors only
}
