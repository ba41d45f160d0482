package backbone

// Sizes returns how many parameters a model of the base has, and how many of them train under config; head: with the
// head of a language objective. Nothing is read or allocated.
func (b *Base) Sizes(config Config, head bool) (total, trainable int64) {
	for _, g := range b.Architecture.groups(head) {
		total += int64(g.size())
	}
	if config.LoRA == nil {
		return total, total
	}
	for _, g := range b.Architecture.adapters(config.LoRA) {
		trainable += int64(g.size())
	}
	return total + trainable, trainable
}
