package backbone

import "github.com/counterpoint-ml/counterpoint/checkpoints/safetensors"

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

// Frozen returns the memory in bytes of the weights that do not train under config, as a device keeps them that loads
// them itself (engine.Loader): matrices of bfloat16 in 2 bytes a value, all else in 4. The models of a process share it.
func (b *Base) Frozen(config Config, head bool) (bytes int64) {
	if config.LoRA == nil {
		return 0
	}
	files, parts := b.source.(safetensors.Parts)
	read := "head" // by losses, in float32
	if b.Architecture.Tied {
		read = "embed"
	}
	for _, g := range b.Architecture.groups(head) {
		half := parts && len(g.shape) == 2 && !(head && g.key == read)
		for _, t := range g.members {
			if half {
				info, _ := files.Info(b.disk(t.name))
				half = info.DType == safetensors.BF16
			}
		}
		if half {
			bytes += 2 * int64(g.size())
		} else {
			bytes += 4 * int64(g.size())
		}
	}
	return bytes
}
