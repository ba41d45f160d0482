// Package checkpoints writes, verifies and reads checkpoints, and imports and exports model folders.
package checkpoints

// Config is checkpoint: in the YAML. None of it belongs to a run's identity.
type Config struct {
	Dir   string `yaml:"dir,omitempty" json:"dir,omitempty"`     // default runs/NAME/checkpoints
	Store string `yaml:"store,omitempty" json:"store,omitempty"` // URL instead of a folder: s3://BUCKET/PREFIX?endpoint=..., file:///FOLDER
	Every int64  `yaml:"every,omitempty" json:"every,omitempty"` // steps; 0 = only at the end
	Keep  int    `yaml:"keep,omitempty" json:"keep,omitempty"`   // newest N besides the best; default 3
	Best  string `yaml:"best,omitempty" json:"best,omitempty"`   // metric that chooses the best, such as ndcg@10
}
