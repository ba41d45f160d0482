package worker

import (
	"context"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/trainer"
)

func randomState(r *rand.Rand) trainer.State {
	s := trainer.State{Step: r.Int64N(1 << 40), Attempt: r.Int32N(9)}
	floats := func(n int) []float32 {
		out := make([]float32, n)
		for i := range out {
			out[i] = float32(r.NormFloat64())
		}
		return out
	}
	n := r.IntN(50)
	s.Parameters, s.First, s.Second = floats(n), floats(n), floats(n)
	if r.IntN(3) > 0 {
		s.Maxima = floats(r.IntN(5))
	}
	return s
}

// Any cut into parts gives the bytes of the whole, and those the state.
func TestStateInParts(t *testing.T) {
	seed := seeded(t)
	r := rand.New(rand.NewPCG(seed, 3))
	for range 300 {
		s := randomState(r)
		size := stateSize(&s)
		var whole []byte
		for lo := int64(0); lo < size; {
			hi := min(lo+1+r.Int64N(97), size)
			part := encodeState(&s, lo, hi)
			if int64(len(part)) != hi-lo {
				t.Fatalf("encodeState(%d, %d) has %d bytes", lo, hi, len(part))
			}
			whole = append(whole, part...)
			lo = hi
		}
		got, err := decodeState(whole)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, s) {
			t.Fatalf("decodeState = %+v, want %+v", got, s)
		}
		if _, err := decodeState(whole[:r.Int64N(size)]); err == nil {
			t.Fatal("decodeState of a part = nil, want an error")
		}
	}
}

func FuzzDecodeState(f *testing.F) {
	s := randomState(rand.New(rand.NewPCG(1, 1)))
	f.Add(encodeState(&s, 0, stateSize(&s)))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeState(b)
		if err != nil {
			return
		}
		if got := encodeState(&s, 0, stateSize(&s)); string(got) != string(b) {
			t.Errorf("encodeState(decodeState(b)) differs from b of %d bytes", len(b))
		}
	})
}

func TestCopyIsTakenBetweenSteps(t *testing.T) {
	j := &job{trainer: newToy(), kicked: make(chan struct{}, 1), copies: newCopies(100 * time.Millisecond)}
	req := &wire.ChunkRequest{Stream: streamState, Lo: 0, Hi: 1 << 20}
	if c := j.answerState(t.Context(), req); !c.Later {
		t.Errorf("answer in the middle of a step = %+v, want later", c)
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() { // the driver, between steps whenever it is asked
		defer close(ended)
		for {
			select {
			case <-j.kicked:
				j.copies.refresh(j)
			case <-stop:
				return
			}
		}
	}()
	c := j.answerState(t.Context(), req)
	for c.Later {
		c = j.answerState(context.Background(), req)
	}
	close(stop)
	<-ended
	s, err := decodeState(c.Payload)
	if err != nil || c.Key != "0" || !reflect.DeepEqual(s.Parameters, newToy().State().Parameters) {
		t.Errorf("copy %q = %v, %v, want the parameters of step 0", c.Key, s.Parameters, err)
	}
	j.steps = 1 // another step: a fresh copy is another one, and this one stays until it is replaced
	req.Key = "0"
	if c := j.answerState(t.Context(), req); c.Err != "" {
		t.Errorf("answer for the copy of step 0 = %q, want it", c.Err)
	}
	req.Key = "7"
	if c := j.answerState(t.Context(), req); c.Err == "" {
		t.Error("answer for a copy that was never taken has no error")
	}
}
