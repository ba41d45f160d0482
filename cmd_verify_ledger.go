package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/counterpoint-ml/counterpoint/coordinator/consensus"
	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/ledger"
)

func verifyLedgerCommand() *cobra.Command {
	var v ledgerVerification
	cmd := &cobra.Command{
		Use:   "ledger RUN",
		Short: "Prove from the Raft log that each sample of each step was counted exactly once",
		Long: `RUN is the folder of a run or of a coordinator, in use or not; its log is copied and not changed. It is read entry by entry and
applied to a new state machine. For every committed step the global batch is computed again from the run's settings and data,
and compared: batch and shards, one closing that names every shard once and for each a worker that held its lease, order of
the commits, digests of what was executed again, and each sample once in each epoch of its source. What only a snapshot
remembers is proven as far as it goes, and the rest is said. The exit code is 1 at the first violation, which names the step,
the shard and the sample.`,
		Example: "  counterpoint verify ledger runs/tiny-diffusion\n  counterpoint verify ledger /var/lib/counterpoint/run1 --config run.yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			v.out = cmd.OutOrStdout()
			return v.verify(args[0])
		},
	}
	f := cmd.Flags()
	f.StringVar(&v.file, "config", "", "run file; default: the one that the folder, or the log itself, keeps")
	f.StringArrayVar(&v.sets, "set", nil, "key=value over the run file, as the run was begun with")
	f.StringVar(&v.run, "run", "", "which run, where the log has several; default: all")
	f.BoolVar(&v.json, "json", false, "as JSON")
	return cmd
}

// ledgerVerification is one call of verify ledger.
type ledgerVerification struct {
	file, run string
	sets      []string
	json      bool
	out       io.Writer
}

// ledgerResult is what a folder's log proves of one run.
type ledgerResult struct {
	Folder    string            `json:"folder"`
	First     uint64            `json:"first_entry"`
	Last      uint64            `json:"last_entry"`
	Snapshots int               `json:"snapshots"`
	Proof     *ledger.Proof     `json:"proof,omitempty"`
	Violation *ledger.Violation `json:"violation,omitempty"`
	Damaged   []string          `json:"damaged,omitempty"`
}

func (v *ledgerVerification) verify(dir string) error {
	folders, err := stageFolders(dir)
	if err != nil {
		return err
	}
	var all []*ledgerResult
	failed := false
	for _, folder := range folders {
		results, err := v.folder(folder)
		if err != nil {
			return err
		}
		for _, r := range results {
			failed = failed || r.Violation != nil || len(r.Damaged) > 0
			if !v.json {
				if len(all) > 0 {
					fmt.Fprintln(v.out)
				}
				if err := r.print(v.out); err != nil {
					return err
				}
			}
			all = append(all, r)
		}
	}
	if v.json {
		e := json.NewEncoder(v.out)
		e.SetIndent("", "  ")
		if err := e.Encode(all); err != nil {
			return err
		}
	}
	if failed {
		return exitError{1}
	}
	return nil
}

// folder proves every run of one log that the folder's settings are of.
func (v *ledgerVerification) folder(dir string) (results []*ledgerResult, err error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	past, err := consensus.OpenPast(abs)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, past.Close()) }()
	about := ledgerResult{Folder: dir, First: past.First, Last: past.Last, Snapshots: len(past.Snapshots), Damaged: past.Damaged}
	log, from, damaged, err := startOf(past)
	about.Damaged = append(about.Damaged, damaged...)
	if err != nil {
		return nil, err
	}
	state, err := replay(past, log, from)
	if err != nil {
		about.Violation = &ledger.Violation{Shard: -1, What: err.Error()}
		return []*ledgerResult{&about}, nil
	}
	var others []string
	for _, r := range state.Runs {
		if v.run != "" && r.ID != v.run {
			continue
		}
		result := about
		if err := v.one(&result, past, abs, r); errors.Is(err, errOtherRun) && v.run == "" {
			others = append(others, fmt.Sprintf("run %s: %v", r.ID, err))
			continue
		} else if err != nil {
			return nil, err
		}
		results = append(results, &result)
	}
	if len(results) == 0 {
		return nil, fmt.Errorf("the log in %s has the runs %v, and none that its run file is of (--config and --set say with which settings it was begun): %s", dir, ledger.Runs(state), strings.Join(others, "; "))
	}
	return results, nil
}

// errOtherRun says that a run file is not of the run that a log has.
var errOtherRun = errors.New("the run file is of another identity")

// one proves one run, if the run file is of it.
func (v *ledgerVerification) one(result *ledgerResult, past *consensus.Past, dir string, r *fsm.Run) (err error) {
	p, err := reopenRun(dir, v.file, v.sets, r, slog.New(slog.DiscardHandler))
	if err != nil {
		return fmt.Errorf("run %s: %w", r.ID, err)
	}
	defer func() { err = errors.Join(err, p.close()) }()
	_, identity, err := p.identity()
	if err != nil {
		return err
	}
	if identity != r.Identity {
		return fmt.Errorf("%w: %.16s, the run's is %.16s", errOtherRun, identity, r.Identity)
	}
	return result.prove(past, r.ID, p.set)
}

// startOf returns the machine that a log's entries begin with, and the first of them.
func startOf(past *consensus.Past) (log ledger.Log, from uint64, damaged []string, err error) {
	log = ledger.Log{Machine: fsm.NewMachine(), Marks: map[uint64]string{}}
	restored := false
	for _, s := range past.Snapshots { // newest first
		m := fsm.NewMachine()
		if err := m.Restore(bytes.NewReader(s.Content)); err != nil {
			damaged = append(damaged, fmt.Sprintf("snapshot %s: %v", s.ID, err))
			continue
		}
		log.Marks[s.Index] = m.State().Digest()
		if past.First > 1 && !restored && s.Index+1 >= past.First {
			log.Machine, from, restored = m, s.Index+1, true
		}
	}
	if past.First > 1 && !restored {
		err = fmt.Errorf("the log begins with entry %d, and no snapshot before it can be read: %v", past.First, damaged)
	}
	return log, from, damaged, err
}

// replay returns the state after all entries.
func replay(past *consensus.Past, log ledger.Log, from uint64) (*fsm.State, error) {
	m := fsm.NewMachine()
	var b bytes.Buffer
	if from > 0 {
		if _, err := log.Machine.State().WriteTo(&b); err != nil {
			return nil, err
		}
		if err := m.Restore(&b); err != nil {
			return nil, err
		}
	}
	for e, err := range past.Entries(from) {
		if err != nil {
			return nil, err
		}
		if err := m.Apply(e.Content); err != nil && !errors.Is(err, fsm.ErrRejected) {
			return nil, fmt.Errorf("entry %d of the log cannot be read: %w", e.Index, err)
		}
	}
	return m.State(), nil
}

// prove proves one run. An error is one of reading; what is wrong with the run is the result's.
func (r *ledgerResult) prove(past *consensus.Past, run string, batches ledger.Batches) error {
	log, from, _, err := startOf(past)
	if err != nil {
		return err
	}
	p, err := ledger.New(log, run, batches)
	if err == nil {
		for e, read := range past.Entries(from) {
			if read != nil {
				return read
			}
			if err = p.Entry(e.Index, e.Content); err != nil {
				break
			}
		}
	}
	proof, end := p.Finish()
	r.Proof = proof
	if err == nil {
		err = end
	}
	if !errors.As(err, &r.Violation) {
		return err
	}
	return nil
}

func (r *ledgerResult) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "log\t%s, entries %d to %d, %s\n", r.Folder, r.First, r.Last, plural(r.Snapshots, "snapshot", "snapshots"))
	if p := r.Proof; p != nil {
		fmt.Fprintf(t, "run\t%s (%s), %s, identity %.16s\n", p.Name, p.Run, p.State, p.Identity)
		fmt.Fprintf(t, "steps\t%d of %d committed, in order, each once\n", p.Steps, p.Of)
		fmt.Fprintf(t, "samples\t%d in %s, %d texts, %d tokens\n", p.Samples, plural(int(p.Shards), "shard", "shards"), p.Texts, p.Tokens)
		fmt.Fprintf(t, "batches\t%d of %d compared with what was served, text by text\n", p.Served, p.Steps)
		fmt.Fprintf(t, "closings\t%d, each naming every shard once; %d withdrawn\n", p.Closings, p.Withdrawn)
		fmt.Fprintf(t, "leases\t%s leased again\n", plural(int(p.Releases), "shard", "shards"))
		fmt.Fprintf(t, "attempts\t%d repeated\n", p.Retries)
		fmt.Fprintf(t, "replays\t%s executed again with the same digests, after %s\n", plural(int(p.Replays), "step", "steps"), plural(int(p.Restarts), "restart", "restarts"))
		if p.Rewound > 0 {
			fmt.Fprintf(t, "rewound\t%s taken back by name\n", plural(int(p.Rewound), "step", "steps"))
		}
		if err := t.Flush(); err != nil {
			return err
		}
		if len(p.Sources) > 0 {
			fmt.Fprintln(t, "\nSOURCE\tROWS\tIN AN EPOCH\tWHOLE EPOCHS\tOF THE NEXT")
			for _, s := range p.Sources {
				fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\n", s.Name, s.Rows, s.Used, s.Epochs, s.Partial)
			}
		}
		for _, n := range p.Notes {
			fmt.Fprintf(t, "\nnote: %s\n", n)
		}
	}
	for _, d := range slices.Compact(r.Damaged) {
		fmt.Fprintf(t, "\nFAILED: %s\n", d)
	}
	switch {
	case r.Violation != nil:
		fmt.Fprintf(t, "\nFAILED: %v\n", r.Violation)
	case len(r.Damaged) == 0:
		fmt.Fprintln(t, "\nproven: each sample of each committed step was counted exactly once")
	}
	return t.Flush()
}
