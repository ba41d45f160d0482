package wire

import (
	"fmt"
	"strings"
)

// Subjects. Requests go to one queue group of coordinators; a coordinator that does not lead answers with
// Verdict.Retry, or serves what it can (shards, files). Everything of one run lies under one prefix, so that a
// worker's permissions can be one pattern.
const (
	HelloSubject   = "cp.hello"   // request Hello, reply Welcome
	BeatSubject    = "cp.beat"    // request Beat, reply Pulse
	LeaveSubject   = "cp.leave"   // request Leave, reply Verdict
	ControlSubject = "cp.control" // request Control, reply ControlReply
	StatusSubject  = "cp.status"  // request StatusRequest, reply StatusReply
	SubmitSubject  = "cp.submit"  // request SubmitRequest, reply SubmitReply
	RunsSubject    = "cp.runs"    // request RunsRequest, reply RunsReply
	LogSubject     = "cp.log"     // publish Log
	LogsSubject    = "cp.logs"    // request LogsRequest, reply LogsReply: the newest lines
	EventSubject   = "cp.event"   // publish RunEvent
	EventsSubject  = "cp.events"  // request EventsRequest, reply EventsReply
)

// RoundSubject carries Round from the leader to all workers of a run.
func RoundSubject(run string) string { return "cp.run." + run + ".round" }

// ReportSubject takes Report, answered by Verdict.
func ReportSubject(run string) string { return "cp.run." + run + ".report" }

// AppliedSubject takes Applied, answered by Verdict.
func AppliedSubject(run string) string { return "cp.run." + run + ".applied" }

// ScoredSubject takes Scored, answered by Verdict.
func ScoredSubject(run string) string { return "cp.run." + run + ".scored" }

// SavedSubject takes Saved, answered by Verdict.
func SavedSubject(run string) string { return "cp.run." + run + ".saved" }

// ShardSubject takes ShardRequest, answered by ShardReply.
func ShardSubject(run string) string { return "cp.run." + run + ".shard" }

// HeaderSubject takes HeaderRequest, answered by HeaderReply.
func HeaderSubject(run string) string { return "cp.run." + run + ".header" }

// FileSubject takes FileRequest, answered by FileReply.
func FileSubject(run string) string { return "cp.run." + run + ".file" }

// RowsSubject carries Rows from the worker that embedded a shard to all workers of a run.
func RowsSubject(run string) string { return "cp.run." + run + ".rows" }

// RowsRequestSubject carries RowsRequest to all workers of a run.
func RowsRequestSubject(run string) string { return "cp.run." + run + ".rowsrequest" }

// RowsReplySubject carries Rows to the one worker that asked for them.
func RowsReplySubject(run, worker string) string {
	return "cp.run." + run + ".worker." + worker + ".rows"
}

// ChunkSubject takes ChunkRequest to one worker, answered by Chunk.
func ChunkSubject(run, worker string) string { return "cp.run." + run + ".worker." + worker + ".chunk" }

// Grant lets a worker's key act for a worker id, in a run once it is assigned to one.
type Grant struct {
	Worker string
	Run    string // "" = idle
}

// Permissions returns the subjects that a worker may publish to and subscribe to, besides its inbox. Who is not admitted
// may say hello; who is, beats and leaves; a grant with a run adds that run's. Only the leader publishes Round, and only
// coordinators take what is sent to them. A new subject that workers use belongs here.
func Permissions(admitted bool, grants []Grant) (publish, deny, subscribe []string) {
	publish = []string{HelloSubject}
	if !admitted {
		return publish, nil, nil
	}
	publish = append(publish, BeatSubject, LeaveSubject, LogSubject)
	for _, g := range grants {
		if g.Run == "" {
			continue
		}
		publish = append(publish, "cp.run."+g.Run+".>")
		deny = append(deny, RoundSubject(g.Run))
		subscribe = append(subscribe, RoundSubject(g.Run), RowsSubject(g.Run), RowsRequestSubject(g.Run), "cp.run."+g.Run+".worker."+g.Worker+".>")
	}
	return publish, deny, subscribe
}

// CheckName returns an error unless s can be part of a subject: a run's or a worker's id. 1 to 64 of A-Z, a-z, 0-9,
// '-' and '_'.
func CheckName(what, s string) error {
	if s == "" || len(s) > 64 {
		return fmt.Errorf("%s %q: 1 to 64 characters are allowed, not %d", what, s, len(s))
	}
	if i := strings.IndexFunc(s, func(c rune) bool {
		return !(c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_')
	}); i >= 0 {
		return fmt.Errorf("%s %q: %q is not allowed; letters, digits, - and _ are", what, s, s[i:i+1])
	}
	return nil
}
