package hub

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzAdapterConfig: any adapter_config.json is read or refused; what is read has a rank.
func FuzzAdapterConfig(f *testing.F) {
	f.Add([]byte(`{"peft_type":"LORA","r":4,"lora_alpha":8,"rank_pattern":{"q_proj":2},"alpha_pattern":{".*\\.v":1.5}}`))
	f.Add([]byte(`{"peft_type":"LORA","r":4,"rank_pattern":[1]}`))
	f.Add([]byte(`{"peft_type":"LORA","r":4,"rank_pattern":{"(":2}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "adapter_config.json")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		a := &Adapter{}
		if err := a.readConfig(path); err == nil && a.rank < 1 {
			t.Errorf("rank %d accepted", a.rank)
		}
	})
}

// FuzzPooling: any pooling config is read as one known mode or refused.
func FuzzPooling(f *testing.F) {
	f.Add([]byte(`{"pooling_mode":"mean","embedding_dimension":8}`))
	f.Add([]byte(`{"pooling_mode_lasttoken":true,"word_embedding_dimension":8,"include_prompt":false}`))
	f.Add([]byte(`{"pooling_mode":["mean","max"]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "config.json")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		var s Sentence
		if err := s.readPooling(path); err == nil && s.Pooling == "" {
			t.Error("no pooling")
		}
	})
}
