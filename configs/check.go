package configs

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/contrastive"
)

var (
	runName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)
	metric  = regexp.MustCompile(`^(ndcg|mrr|recall|map|p|r|success)(@[1-9][0-9]*)?$`)
)

// check refuses combinations that cannot work. It runs only when every single value is sound.
func check(c *Config, m *merger) []Error {
	had := len(m.errs)
	fail := func(key, format string, args ...any) { m.fail(m.at(key), key, format, args...) }
	if !runName.MatchString(c.Name) {
		fail("name", "found %q; it becomes a folder: letters, digits, `.`, `_` and `-`, at most 100", c.Name)
	}
	switch {
	case c.Model.Path == "" && c.Model.Preset == "":
		fail("model", "has neither path nor preset; give a folder, or preset: tiny-diffusion or tiny-causal")
	case c.Model.Path != "" && c.Model.Preset != "":
		fail("model.preset", "stands beside model.path; a backbone has one origin: remove one of the two")
	}
	checkLoss(c, m)
	if w := c.Train.Schedule.Warmup; w >= c.Train.Steps && w > 0 {
		fail("train.schedule.warmup", "%d steps of warm-up leave none of train.steps: %d to train", w, c.Train.Steps)
	}
	if g := c.Train.Group; g > 0 && c.Train.Batch%g != 0 {
		fail("train.group", "train.batch: %d is no multiple of group: %d", c.Train.Batch, g)
	}
	if len(c.Evaluate.Suites) == 0 {
		if c.Evaluate.Every > 0 || c.Evaluate.Before {
			fail("evaluate", "asks for evaluations but has no suites; add suites: [{path: ...}]")
		}
		if c.Checkpoint.Best != "" {
			fail("checkpoint.best", "%q needs a suite to be measured on; add evaluate.suites", c.Checkpoint.Best)
		}
	}
	if b := c.Checkpoint.Best; b != "" && !metric.MatchString(b) {
		fail("checkpoint.best", "found %q; allowed: ndcg@k, mrr@k, recall@k, p@k, success@k, map, r@1, with k a number, such as ndcg@10", b)
	}
	if l := c.Model.LoRA; l != nil {
		for _, t := range l.Targets {
			if t == "all-linear" && len(l.Targets) > 1 {
				fail("model.lora.targets", "all-linear already names every layer; remove the others or it")
			}
		}
	}
	if c.Model.Adapter != "" && c.Model.LoRA == nil {
		fail("model.adapter", "continues from an adapter, which needs model.lora with its rank, alpha and targets; model.merge takes it into the weights instead")
	}
	m.resolve("model.path", &c.Model.Path)
	m.resolve("model.adapter", &c.Model.Adapter)
	for i := range c.Model.Merge {
		m.resolve(fmt.Sprintf("model.merge[%d]", i), &c.Model.Merge[i])
	}
	for i := range c.Data {
		m.resolve(fmt.Sprintf("data[%d].path", i), &c.Data[i].Path)
	}
	for i := range c.Evaluate.Suites {
		m.resolve(fmt.Sprintf("evaluate.suites[%d].path", i), &c.Evaluate.Suites[i].Path)
	}
	errs := m.errs[had:]
	m.errs = m.errs[:had]
	return errs
}

// checkLoss refuses keys that the objective does not read, and masks that defeat it.
func checkLoss(c *Config, m *merger) {
	useless := map[string][]string{
		contrastive.InfoNCEKind:     {"epsilon", "shift", "texts"},
		contrastive.MaskedDiffusion: {"temperature", "hard_negatives", "symmetric", "mask_duplicates"},
		contrastive.CausalLM:        {"temperature", "hard_negatives", "symmetric", "mask_duplicates", "epsilon", "shift"},
	}[c.Loss.Kind]
	for _, name := range useless {
		if key := "loss." + name; m.given(key) {
			m.fail(m.at(key), key, "has no meaning for loss.kind: %s; remove it", c.Loss.Kind)
		}
	}
	switch {
	case c.Loss.Kind == contrastive.MaskedDiffusion && c.Model.Attention == backbone.Causal:
		m.fail(m.at("model.attention"), "model.attention", "causal attention cannot see what surrounds a mask; masked-diffusion needs bidirectional")
	case c.Loss.Kind == contrastive.CausalLM && c.Model.Attention == backbone.Bidirectional:
		m.fail(m.at("model.attention"), "model.attention", "bidirectional attention sees the token it is to predict; causal-lm needs causal")
	}
	if c.Loss.Kind != contrastive.InfoNCEKind {
		c.Loss.HardNegatives, c.Loss.Temperature = 0, 0
	}
	if c.Loss.Kind == contrastive.InfoNCEKind && c.Train.Batch == 1 && c.Loss.HardNegatives == 0 {
		m.fail(m.at("train.batch"), "train.batch", "a batch of 1 without hard negatives gives InfoNCE nothing to tell apart; want at least 2")
	}
	if strings.TrimSpace(c.Loss.Texts) == "" {
		c.Loss.Texts = "all"
	}
}
