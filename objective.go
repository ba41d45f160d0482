package main

import (
	"fmt"
	"strings"

	"github.com/counterpoint-ml/counterpoint/trainer/contrastive"
)

// maskToken finds the id of loss.mask_token, which workers, having no tokenizer, cannot.
func (p *prepared) maskToken() error {
	l := &p.config.Loss
	if l.MaskToken == "" || !l.Masks() {
		return nil
	}
	id, ok := p.tok.ID(l.MaskToken)
	if !ok {
		ids := p.tok.Encode(nil, l.MaskToken)
		if len(ids) != 1 {
			return fmt.Errorf("loss.mask_token: %q is no token of the model's vocabulary, which writes it in %s", l.MaskToken, plural(len(ids), "token", "tokens"))
		}
		id = ids[0]
	}
	l.MaskID = &id
	return nil
}

// objective is the run's loss in a sentence.
func objective(l contrastive.Config) string {
	var line string
	switch l.Kind {
	case contrastive.InfoNCEKind:
		line = fmt.Sprintf("InfoNCE, temperature %g", l.Temperature)
		if l.Symmetric {
			line += ", both directions"
		}
		o := l.Options()
		if o.MaskDuplicates {
			line += ", documents equal to the positive masked"
		}
		switch m := o.Margin; {
		case m.On && m.Relative:
			line += fmt.Sprintf(", documents more similar than the positive by %g of its similarity masked", m.Value)
		case m.On:
			line += fmt.Sprintf(", documents more similar than the positive by %g masked", m.Value)
		}
	case contrastive.ExplicitKind:
		line = "explicit negatives (RepLLaMA): each query against its own positive and negatives, by products / width"
	case contrastive.MaskedDiffusion:
		line = fmt.Sprintf("masked diffusion: each token masked with probability t ~ U(%g, 1), cross-entropy / t; texts: %s", l.Epsilon, l.Texts)
	case contrastive.MNTP:
		line = fmt.Sprintf("masked next-token prediction (mntp): each token masked with probability %g and predicted from the state before it; texts: %s", l.MaskRate, l.Texts)
	default:
		line = fmt.Sprintf("next-token prediction (%s); texts: %s", l.Kind, l.Texts)
	}
	if l.Masks() && l.MaskID != nil {
		line += fmt.Sprintf("; mask token %q (%d)", l.MaskToken, *l.MaskID)
	}
	if len(l.Matryoshka) > 0 {
		line += "; summed over the first " + strings.Trim(strings.Join(strings.Fields(fmt.Sprint(l.Matryoshka)), ", "), "[]") + " dimensions"
		if len(l.MatryoshkaWeights) > 0 {
			line += fmt.Sprintf(" with weights %s", strings.Trim(strings.Join(strings.Fields(fmt.Sprint(l.MatryoshkaWeights)), ", "), "[]"))
		}
	}
	return line
}

func (p *prepared) planObjective(s *sheet) {
	s.row("objective", "%s", objective(p.config.Loss))
	o := p.config.Trainer().Optimizer.Filled()
	s.row("optimizer", "AdamW, betas %g and %g, weight decay %g, %s", o.Beta1, o.Beta2, o.WeightDecay, clip(o.Clip))
	s.row("optimizer", "learning rate %s", words(o.Schedule, p.config.Train.Steps))
}
