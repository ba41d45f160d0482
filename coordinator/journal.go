package coordinator

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
)

// journal tells of events: to the caller, and as lines of events.jsonl.
type journal struct {
	file *os.File // nil = it could not be opened
	tell func(Event)
	heed func(e *Event, json []byte) // told of each event's JSON, whether or not it could be written; may be nil
	log  *slog.Logger
	full bool // the last line could not be written
	torn bool // the file may end within a line
}

// torn reports whether a file ends within a line: a crash or a full disk cut it short.
func torn(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return err != nil
	}
	var last [1]byte
	_, err = f.ReadAt(last[:], info.Size()-1)
	return err != nil || last[0] != '\n'
}

func openJournal(path string, tell func(Event), log *slog.Logger) (*journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the run's events: %w", err)
	}
	return &journal{file: f, tell: tell, log: log, torn: torn(f)}, nil
}

// add tells of an event. A line that cannot be written is a warning, the first time: the run goes on.
func (j *journal) add(e Event) {
	if j.tell != nil {
		j.tell(e)
	}
	finite(&e)
	b, err := json.Marshal(e)
	if err == nil && j.heed != nil {
		j.heed(&e, b)
	}
	if j.file == nil {
		return
	}
	if err == nil {
		line := append(b, '\n')
		if j.torn {
			line = append([]byte{'\n'}, line...)
		}
		var n int
		n, err = j.file.Write(line)
		j.torn = err != nil && (n > 0 || j.torn)
	}
	if err != nil && !j.full {
		j.log.Warn("event not written", "file", j.file.Name(), "error", err)
		if j.tell != nil {
			j.tell(Event{Time: e.Time, Kind: Warning, Run: e.Run, Step: e.Step, Steps: e.Steps, Reason: fmt.Sprintf("the report will lack what happens from now on: %v", err)})
		}
	}
	j.full = err != nil
}

// finite replaces what JSON has no word for.
func finite(e *Event) {
	for _, v := range []*float64{&e.Loss, &e.Norm, &e.Rate} {
		if math.IsNaN(*v) || math.IsInf(*v, 0) {
			*v = 0
		}
	}
	for key, v := range e.Metrics {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			kept := map[string]float64{}
			for k, v := range e.Metrics {
				if !math.IsNaN(v) && !math.IsInf(v, 0) {
					kept[k] = v
				}
			}
			e.Reason = fmt.Sprintf("%s is %v", key, v)
			e.Metrics = kept
			return
		}
	}
}

func (j *journal) close() error {
	if j.file == nil {
		return nil
	}
	return errors.Join(j.file.Sync(), j.file.Close())
}
