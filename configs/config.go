// Package configs has the schema of a run's YAML file: defaults, strict decoding with positions, explanations
// and examples. It is the only importer of viper and knows no behaviour.
package configs

import (
	"github.com/counterpoint-ml/counterpoint/checkpoints"
	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/contrastive"
	"github.com/counterpoint-ml/counterpoint/trainer/evaluate"
	"github.com/counterpoint-ml/counterpoint/trainer/optim"
)

// Config is a whole run, as the YAML file says it.
type Config struct {
	Name       string             `yaml:"name"`
	Model      backbone.Config    `yaml:"model"`
	Data       []data.Source      `yaml:"data"`
	Loss       contrastive.Config `yaml:"loss"`
	Train      Train              `yaml:"train"`
	Checkpoint checkpoints.Config `yaml:"checkpoint"`
	Evaluate   evaluate.Config    `yaml:"evaluate"`
	Cluster    coordinator.Config `yaml:"cluster"`
	Log        Log                `yaml:"log"`
	Stages     []Stage            `yaml:"stages"` // none: one run

	// Hosts says that the file has no run: a coordinator takes those that are submitted. See Layers.Hosts.
	Hosts bool `yaml:"-"`
}

// Train is train: in the YAML.
type Train struct {
	Batch       int            `yaml:"batch"`
	Steps       int64          `yaml:"steps"`
	MaxLength   int            `yaml:"max_length"`
	Seed        uint64         `yaml:"seed"`
	Schedule    optim.Schedule `yaml:"schedule"`
	Clip        float64        `yaml:"clip"`
	Beta1       float64        `yaml:"beta1"`
	Beta2       float64        `yaml:"beta2"`
	Epsilon     float64        `yaml:"epsilon"`
	WeightDecay float64        `yaml:"weight_decay"`
	ShardTokens int            `yaml:"shard_tokens"`
	Group       int            `yaml:"group"`
	Remainder   string         `yaml:"remainder"`
}

// Log is log: in the YAML. None of it belongs to a run's identity.
type Log struct {
	Dir   string `yaml:"dir"`
	Level string `yaml:"level"`
}

// Trainer returns the part of the run that decides its numbers on a worker.
func (c *Config) Trainer() trainer.Config {
	return trainer.Config{
		Model: c.Model,
		Loss:  c.Loss,
		Optimizer: optim.Config{
			Schedule: c.Train.Schedule, Clip: c.Train.Clip,
			Beta1: c.Train.Beta1, Beta2: c.Train.Beta2, Epsilon: c.Train.Epsilon, WeightDecay: c.Train.WeightDecay,
		},
		Steps: c.Train.Steps, Batch: c.Train.Batch, MaxLength: c.Train.MaxLength, Seed: c.Train.Seed,
	}
}

// Order returns how the run's rows become global batches.
func (c *Config) Order() data.Order {
	o := data.Order{
		Batch: c.Train.Batch, HardNegatives: c.Loss.HardNegatives, Group: c.Train.Group, Remainder: c.Train.Remainder,
		MaxLength: c.Train.MaxLength, ShardTokens: c.Train.ShardTokens, Seed: c.Train.Seed, Whole: c.Model.LoRA == nil,
	}
	if !c.Loss.Embeds() {
		o.HardNegatives, o.Texts, o.Predicted = 0, c.Loss.Texts, c.Loss.Kind == contrastive.CausalLM
	}
	if loss, seed := c.Loss, c.Train.Seed; loss.Kind == contrastive.MNTP {
		o.Terms = func(step int64, slot int32, tokens int) int {
			n, _ := loss.Terms(seed, step, uint32(slot), tokens)
			return n
		}
	}
	return o
}
