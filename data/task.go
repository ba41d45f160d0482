package data

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/counterpoint-ml/counterpoint/data/spelling"
)

// The kinds of evaluation sets: what is before the colon of a suite's path. A path without one is a folder in BEIR layout.
const (
	BEIRTask           = "beir"           // FOLDER with corpus, queries and qrels
	STSTask            = "sts"            // FILE of {sentence1, sentence2, score}
	PairsTask          = "pairs"          // FILE of {sentence1, sentence2, label}
	ClassificationTask = "classification" // FOLDER with train and test, of {text, label}
	ClusteringTask     = "clustering"     // FILE of {sentences, labels}
	RerankTask         = "rerank"         // FILE of {query, positive, negative}
	BitextTask         = "bitext"         // FILE of {sentence1, sentence2}
	SummaryTask        = "summarization"  // FILE of {human_summaries, machine_summaries, relevance}
	FollowIRTask       = "followir"       // FOLDER with corpus, queries, instructions, qrels, qrel_diff, top_ranked
	BrightTask         = "bright"         // FOLDER with examples and documents
	LongEmbedTask      = "longembed"      // passkey, needle, or FOLDER of a real task
	MTEBTask           = "mteb"           // NAME:FOLDER, one of mteb's tasks by its name
)

// Tasks are the kinds, for messages.
var Tasks = []string{
	BEIRTask, STSTask, PairsTask, ClassificationTask, ClusteringTask, RerankTask, BitextTask, SummaryTask, FollowIRTask, BrightTask, LongEmbedTask, MTEBTask,
}

// ParseSuite splits "KIND:PATH". What has no colon, or is there as it is written, is a folder in BEIR layout.
func ParseSuite(spec string) (task, path string, err error) {
	task, path, ok := strings.Cut(spec, ":")
	if !ok || len(task) == 1 { // C:\dev
		return BEIRTask, spec, nil
	}
	if slices.Contains(Tasks, task) {
		if path == "" {
			return "", "", fmt.Errorf("suite %q: nothing follows the colon", spec)
		}
		return task, path, nil
	}
	if _, err := os.Stat(spec); err == nil || strings.ContainsAny(task, `/\`) {
		return BEIRTask, spec, nil
	}
	hint := ""
	if near := spelling.Nearest(task, Tasks); near != "" {
		hint = fmt.Sprintf("; did you mean %q?", near+":"+path)
	}
	return "", "", fmt.Errorf("suite %q: %q is no kind of task; allowed: %s%s", spec, task, strings.Join(Tasks, ", "), hint)
}
