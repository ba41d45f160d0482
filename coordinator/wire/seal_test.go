package wire

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/counterpoint-ml/counterpoint/coordinator/pack"
)

// One flipped bit of any message is noticed, or changes nothing that is read.
func TestFlippedBit(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 1))
	noticed, harmless := 0, 0
	for _, m := range messages() {
		for range 200 {
			b, err := Encode(m)
			if err != nil {
				t.Fatal(err)
			}
			bit := r.IntN(8 * len(b))
			b[bit/8] ^= 1 << (bit % 8)
			got := reflect.New(reflect.TypeOf(m).Elem()).Interface()
			if err := Decode(b, got); err != nil {
				if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrProtocol) {
					t.Fatalf("seed %d: %T with bit %d flipped = %v, want ErrMalformed", seed, m, bit, err)
				}
				noticed++
				continue
			}
			if d := cmp.Diff(m, got); d != "" {
				t.Fatalf("seed %d: %T with bit %d of %d flipped is read as another message:\n%s", seed, m, bit, 8*len(b), d)
			}
			harmless++
		}
	}
	t.Logf("%d noticed, %d in the mark of the seal itself", noticed, harmless)
	if noticed < harmless {
		t.Error("most flips were not noticed")
	}
}

// A build that does not know seals reads a sealed message, and this one reads what such a build writes.
func TestSealIsAField(t *testing.T) {
	for _, m := range messages() {
		b, err := Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		old := reflect.New(reflect.TypeOf(m).Elem()).Interface()
		if err := pack.Unmarshal(b[headerSize:], old); err != nil {
			t.Fatalf("%T is not read without knowing of seals: %v", m, err)
		}
		if d := cmp.Diff(m, old); d != "" {
			t.Errorf("%T is read differently without knowing of seals:\n%s", m, d)
		}
		plain := pack.Append(append([]byte{}, b[:headerSize]...), m)
		again := reflect.New(reflect.TypeOf(m).Elem()).Interface()
		if err := Decode(plain, again); err != nil {
			t.Fatalf("%T without a seal: %v", m, err)
		}
	}
}
