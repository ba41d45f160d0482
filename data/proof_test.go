package data

import "testing"

// What was served has the digest of what was cut, and any change of it shows.
func TestDigestOfABatch(t *testing.T) {
	s := open(t, Order{Batch: 6, MaxLength: 12, HardNegatives: 1, ShardTokens: 40, Seed: 3}, t.TempDir(), Source{Path: write(t, "rows.jsonl", someRows(50))})
	b, err := s.Batch(3)
	if err != nil {
		t.Fatal(err)
	}
	var shards []Shard
	for i := range b.Header.Tokens {
		shard, err := b.Shard(i)
		if err != nil {
			t.Fatal(err)
		}
		shards = append(shards, shard)
	}
	if got := DigestBatch(&b.Header, shards); got != b.Digest() {
		t.Fatalf("DigestBatch of what is served = %s, want the batch's %s", got, b.Digest())
	}
	other, err := s.Batch(4)
	if err != nil || other.Digest() == b.Digest() {
		t.Errorf("another step has the same digest (%v)", err)
	}
	last := &shards[len(shards)-1]
	for name, change := range map[string]func(x *Text){
		"row": func(x *Text) { x.Row++ }, "slot": func(x *Text) { x.Slot++ }, "role": func(x *Text) { x.Role++ },
		"length": func(x *Text) { x.Tokens = x.Tokens[:len(x.Tokens)-1] }, "document": func(x *Text) { x.Doc++ },
	} {
		x := &last.Texts[len(last.Texts)-1]
		old := *x
		change(x)
		if DigestBatch(&b.Header, shards) == b.Digest() {
			t.Errorf("a text with another %s has the same digest", name)
		}
		*x = old
	}
}
