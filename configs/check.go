package configs

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	objectstore "github.com/counterpoint-ml/counterpoint/checkpoints/object"
	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/contrastive"
)

var (
	runName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)
	metric  = regexp.MustCompile(`^(ndcg|mrr|recall|map|p|r|success)(@[1-9][0-9]*)?$|^(main_score|p-mrr|cosine_spearman|spearman|accuracy|f1|v_measure|max_ap)$`)
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
	checkCluster(c, m)
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
	if where := c.Checkpoint.Store; where != "" {
		if err := objectstore.Valid(where); err != nil {
			fail("checkpoint.store", "%v", err)
		}
		if c.Checkpoint.Dir != "" {
			fail("checkpoint.store", "stands beside checkpoint.dir; checkpoints go to one place: remove one of the two")
		}
	}
	if b := c.Checkpoint.Best; b != "" && !metric.MatchString(b) {
		fail("checkpoint.best", "found %q; allowed: ndcg@k, mrr@k, recall@k, success@k, map, r@1, p-mrr, cosine_spearman, accuracy, f1, v_measure, max_ap, main_score, with k a number, such as ndcg@10", b)
	}
	if _, err := coordinator.ParseShare(c.Cluster.Audit); err != nil {
		fail("cluster.audit", "%v", err)
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
	m.clusterFiles(c)
	for i := range c.Evaluate.Suites {
		m.suite(i, &c.Evaluate.Suites[i])
	}
	if m.moved != nil {
		m.folders(c)
	}
	errs := m.errs[had:]
	m.errs = m.errs[:had]
	return errs
}

// checkLoss refuses keys that the objective does not read, and masks that defeat it.
func checkLoss(c *Config, m *merger) {
	const negatives = "temperature hard_negatives symmetric mask_duplicates mask_margin margin_strategy matryoshka matryoshka_weights "
	useless := map[string]string{
		contrastive.InfoNCEKind:     "epsilon shift texts mask_rate mask_token",
		contrastive.ExplicitKind:    "temperature symmetric mask_duplicates mask_margin margin_strategy epsilon shift texts mask_rate mask_token",
		contrastive.MaskedDiffusion: negatives + "mask_rate",
		contrastive.MNTP:            negatives + "epsilon shift",
		contrastive.CausalLM:        negatives + "epsilon shift mask_rate mask_token",
	}[c.Loss.Kind]
	for _, name := range strings.Fields(useless) {
		if key := "loss." + name; m.given(key) {
			m.fail(m.at(key), key, "has no meaning for loss.kind: %s; remove it", c.Loss.Kind)
		}
	}
	l := &c.Loss
	at := func(key, format string, args ...any) { m.fail(m.at(key), key, format, args...) }
	switch a := c.Model.Attention; {
	case l.Masks() && a == backbone.Causal:
		at("model.attention", "causal attention cannot see what surrounds a mask; %s needs bidirectional", l.Kind)
	case l.Kind == contrastive.CausalLM && a != "" && a != backbone.Causal:
		at("model.attention", "%s attention sees the token it is to predict; causal-lm needs causal", a)
	case a == backbone.Annealed && c.Model.AnnealSteps == 0:
		at("model.attention", "annealed needs model.anneal_steps, the number of steps until the mask is open")
	case a != backbone.Annealed && c.Model.AnnealSteps > 0:
		at("model.anneal_steps", "has no meaning without model.attention: annealed; remove it or set that")
	}
	switch {
	case m.given("loss.margin_strategy") && l.MaskMargin == nil:
		at("loss.margin_strategy", "has no meaning without loss.mask_margin; remove it or set that")
	case len(l.MatryoshkaWeights) > 0 && len(l.MatryoshkaWeights) != len(l.Matryoshka):
		at("loss.matryoshka_weights", "%d weights for the %d entries of loss.matryoshka; want one each", len(l.MatryoshkaWeights), len(l.Matryoshka))
	case l.Kind == contrastive.ExplicitKind && l.HardNegatives == 0:
		at("loss.hard_negatives", "0: a query's own negatives are all that loss.kind: explicit contrasts it with; want at least 1")
	case l.Kind == contrastive.InfoNCEKind && c.Train.Batch == 1 && l.HardNegatives == 0:
		at("train.batch", "a batch of 1 without hard negatives gives InfoNCE nothing to tell apart; want at least 2")
	}
	for i, d := range l.Matryoshka {
		if slices.Contains(l.Matryoshka[:i], d) {
			at("loss.matryoshka", "%d stands twice", d)
		}
	}
	forget(l)
	if strings.TrimSpace(c.Loss.Texts) == "" {
		c.Loss.Texts = "all"
	}
}

// forget takes out the defaults of keys that the objective does not read, so that they are not in the run's identity.
func forget(l *contrastive.Config) {
	if l.Kind != contrastive.InfoNCEKind {
		l.Temperature = 0
	}
	if !l.Embeds() {
		l.HardNegatives = 0
	}
	if l.Kind != contrastive.MNTP {
		l.MaskRate = 0
	}
	if l.MaskMargin == nil {
		l.MarginStrategy = ""
	}
}
