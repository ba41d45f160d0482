package trainer

// Bytes returns the memory of the activations of a shard of so many tokens and texts: to embed it, and to keep it for,
// and run, the backward pass. Nothing is allocated on the device.
func (t *Trainer) Bytes(tokens, texts int) (embed, backward int64, err error) {
	if m, ok := t.model.(network); ok {
		return m.Bytes(tokens, texts)
	}
	return 0, 0, nil
}
