package worker

import (
	"fmt"
	"slices"
	"testing"

	"github.com/counterpoint-ml/counterpoint/worker/collective"
	"github.com/counterpoint-ml/counterpoint/worker/direct"
)

// How a worker of the metamorphic test reaches others, and is reached.
type reach struct {
	hub    *Hub
	direct bool
}

// adaptTo makes the workers hired from now on reach each other as by says, in turn.
func (o *office) adaptTo(by ...reach) {
	n := 0
	o.adapt = func(c *Config) {
		r := by[n%len(by)]
		n++
		c.Hub = r.hub
		if !r.direct {
			return
		}
		node, err := direct.Listen(direct.Options{
			Listen: "127.0.0.1:0", Failure: officeTimeout, Buffer: collective.Buffer, Recycle: collective.Recycle, Log: testLog(),
		})
		if err != nil {
			o.t.Fatal(err)
		}
		o.t.Cleanup(func() { node.Close() })
		c.Direct, c.Address = node, node.Address()
	}
}

// kinds lists the paths over which the workers of an office have taken values, as their beats tell.
func (o *office) kinds() []string {
	var out []string
	for _, p := range o.people {
		if len(p.agent.jobs) == 0 {
			continue
		}
		for _, x := range p.agent.jobs[0].paths.tell() {
			if x.Bytes > 0 && !slices.Contains(out, x.Kind) {
				out = append(out, x.Kind)
			}
		}
	}
	slices.Sort(out)
	return out
}

// The path that values take does not show in the result: in process, direct, relayed and mixed fleets of every size, with
// a worker killed and another one come late, end in the digests of one worker alone (check compares with it).
func TestExchangePathDoesNotShow(t *testing.T) {
	fleets := map[string]struct {
		by   func() []reach
		want []string
	}{
		"relay":   {func() []reach { return []reach{{}} }, []string{pathRelay}},
		"direct":  {func() []reach { return []reach{{direct: true}} }, []string{pathDirect}},
		"process": {func() []reach { return []reach{{hub: NewHub()}} }, []string{pathMemory}},
		"mixed": {func() []reach {
			h := NewHub()
			return []reach{{direct: true}, {hub: h, direct: true}, {hub: h}}
		}, []string{pathDirect, pathMemory, pathRelay}},
	}
	for name, f := range fleets {
		for _, workers := range []int{1, 2, 3} {
			t.Run(fmt.Sprint(name, "/W=", workers), func(t *testing.T) {
				leaks(t)
				o := newOffice(t, 24)
				o.adaptTo(f.by()...)
				o.open()
				for i := range workers {
					o.hire(fmt.Sprint("w", i))
				}
				waitFor(t, func() bool { return o.steps() > 8 })
				seen := o.kinds()
				o.hire("late")
				waitFor(t, func() bool { return o.steps() > 10 })
				o.fire(o.people[0])
				o.people = o.people[1:]
				o.hire("later")
				waitFor(t, func() bool { return o.steps() > 14 })
				o.check()
				if workers == 3 && !slices.Equal(seen, f.want) {
					t.Errorf("values were taken over %v, want %v", seen, f.want)
				}
			})
		}
	}
}
