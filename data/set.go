package data

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Set is the training data of a run: the indexed sources and the order of their rows. It is safe for
// concurrent use.
type Set struct {
	sources     []*source
	order       Order
	tok         Tokenizer
	log         *slog.Logger
	groups      int // draws in a batch
	group       int // rows in a draw
	shardTokens int
	digest      string

	mu      sync.Mutex
	sched   *schedule
	epochs  map[epochKey]*epoch
	recent  []epochKey // keys of epochs, oldest first
	batches []*Batch   // the last few, as several shards of one step are asked for one by one
}

// Open indexes the sources (or finds their indexes in cacheDir, "" = the user's cache folder) and prepares the
// batches that order describes. The errors name the file and line, or the setting.
func Open(sources []Source, order Order, tok Tokenizer, cacheDir string, log *slog.Logger) (*Set, error) {
	if len(sources) == 0 {
		return nil, errors.New("data: no sources; name at least one file there")
	}
	cacheDir, done, err := cacheFolder(cacheDir)
	if err != nil {
		return nil, err
	}
	defer done()
	s := &Set{order: order, tok: tok, log: log, epochs: map[epochKey]*epoch{}}
	found, err := places(sources)
	if err != nil {
		return nil, err
	}
	for i := range found {
		src, err := openSource(&found[i], cacheDir, tok, log)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		s.sources = append(s.sources, src)
	}
	if err := s.plan(found); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.digest = s.sum(found)
	return s, nil
}

func (s *Set) sum(sources []place) string {
	sum := sha256.New()
	for i, src := range s.sources {
		fmt.Fprintf(sum, "%s %v\n", src.digest, sources[i].Weight)
	}
	o := s.order
	fmt.Fprintln(sum, o.Batch, o.HardNegatives, s.group, o.Remainder == "drop", o.MaxLength, s.shardTokens, o.Seed, o.Texts, o.Predicted)
	return hex.EncodeToString(sum.Sum(nil))
}

// CacheVariable is the environment variable that says where indexes and tokens are cached: a folder, in the place of
// any other, or "off" for none that outlives the process.
const CacheVariable = "COUNTERPOINT_CACHE"

func uncached() bool { return os.Getenv(CacheVariable) == "off" }

// CacheFolder returns where things of a kind, such as "embeddings", are kept from one process to the next; "" = nowhere,
// as CacheVariable says.
func CacheFolder(kind string) (string, error) {
	if uncached() {
		return "", nil
	}
	if set := os.Getenv(CacheVariable); set != "" {
		return filepath.Join(set, kind), nil
	}
	user, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a folder to keep %s in: %w", kind, err)
	}
	return filepath.Join(user, "counterpoint", kind), nil
}

// cacheFolder returns where indexes are cached; done is called when the sources are open.
func cacheFolder(dir string) (folder string, done func(), err error) {
	nothing := func() {}
	switch {
	case uncached():
		if folder, err = os.MkdirTemp("", "counterpoint-data-"); err != nil {
			return "", nothing, fmt.Errorf("make a folder for the index of the data: %w", err)
		}
		return folder, func() { _ = os.RemoveAll(folder) }, nil // open files stay
	case dir != "" && os.Getenv(CacheVariable) == "":
		return dir, nothing, nil
	}
	folder, err = CacheFolder("data")
	return folder, nothing, err
}

// plan checks the order against the sources and fixes groups, schedule and shard size.
func (s *Set) plan(sources []place) error {
	o := &s.order
	switch {
	case o.Batch < 1:
		return fmt.Errorf("train.batch: %d; at least 1 is allowed", o.Batch)
	case o.MaxLength < 1:
		return fmt.Errorf("train.max_length: %d; at least 1 is allowed", o.MaxLength)
	case o.HardNegatives < 0:
		return fmt.Errorf("loss.hard_negatives: %d; 0 or more is allowed", o.HardNegatives)
	case o.Group < 0 || o.Group > 0 && o.Batch%o.Group != 0:
		return fmt.Errorf("group: %d; 0 (one source a batch) or a divisor of the batch %d is allowed", o.Group, o.Batch)
	case o.Remainder != "" && o.Remainder != "wrap" && o.Remainder != "drop":
		return fmt.Errorf("remainder: %q; wrap and drop are allowed", o.Remainder)
	case o.Texts != "" && o.Texts != "all" && o.Texts != "documents" && o.Texts != "queries":
		return fmt.Errorf("loss.texts: %q; all, documents and queries are allowed", o.Texts)
	case o.ShardTokens < 0:
		return fmt.Errorf("shard_tokens: %d; 0 (chosen) or more is allowed", o.ShardTokens)
	}
	if s.group = o.Group; s.group == 0 {
		s.group = o.Batch
	}
	s.groups = o.Batch / s.group
	weights := make([]float64, len(s.sources))
	total, given := 0, 0
	for i, src := range s.sources {
		n := src.rows()
		total += n
		if n < s.group {
			return fmt.Errorf("data: %s has %d rows, fewer than the %d that a batch takes from one source: lower train.batch (or set group), or give more rows", src.path, n, s.group)
		}
		weights[i] = float64(s.used(i))
		if w := sources[i].Weight; w != 0 {
			weights[i] = w * s.part(sources, i)
			given++
		}
	}
	if total < o.Batch {
		return fmt.Errorf("data: %d rows in all sources, fewer than train.batch %d: lower the batch or give more rows", total, o.Batch)
	}
	if given > 0 && given < len(weights) {
		s.log.Warn("some sources have a weight and some do not: those without weigh as much as they have rows", "weights", weights)
	}
	var err error
	if s.sched, err = newSchedule(o.Seed, weights); err != nil {
		return err
	}
	if s.shardTokens = o.ShardTokens; s.shardTokens == 0 {
		least := float64(minShardTokens)
		if o.Whole {
			least = minWholeTokens
		}
		s.shardTokens = shardSize(s.Stats().BatchTokens, least)
	}
	return nil
}

// part returns the share that a source has in the rows of its entry under data: 1, but for a folder of files.
func (s *Set) part(sources []place, i int) float64 {
	rows := 0
	for j := range sources {
		if sources[j].entry == sources[i].entry {
			rows += s.used(j)
		}
	}
	return float64(s.used(i)) / float64(rows)
}

// used returns how many rows of a source are drawn in each of its epochs.
func (s *Set) used(source int) int {
	n := s.sources[source].rows()
	if s.order.Remainder == "drop" {
		n -= n % s.group
	}
	return n
}

// Digest identifies the data as it is trained on: content, limit, on_error, instructions, weight and tokenizer of
// every source, and the order. Equal digests give equal batches and shards.
func (s *Set) Digest() string { return s.digest }

// ShardTokens returns the packed length that shards have at most, but for longer single texts: Order's, or one
// chosen from the average batch, to be fixed in the run's spec at submit.
func (s *Set) ShardTokens() int { return s.shardTokens }

// Sources returns the names of the sources: one for each entry under data, and for a folder one for each of its files.
func (s *Set) Sources() []string {
	names := make([]string, len(s.sources))
	for i, src := range s.sources {
		names[i] = src.name
	}
	return names
}

// Instruction returns what is put before the first source's queries: its instruction, or else the task of its
// first row. A suite without an instruction of its own takes it, since a query is to be embedded as in training.
func (s *Set) Instruction() (string, error) {
	src := s.sources[0]
	rec, err := src.record(0)
	if err != nil {
		return "", err
	}
	if prefix := src.prefix(&rec, 0); prefix != "" {
		return strings.TrimSuffix(prefix, ": "), nil
	}
	return NoInstruction, nil
}

// Where names a row for people: its file and line.
func (s *Set) Where(source int32, row int64) string {
	if source < 0 || int(source) >= len(s.sources) || row < 0 || row >= int64(s.sources[source].rows()) {
		return fmt.Sprintf("source %d row %d", source, row)
	}
	return s.sources[source].where(uint32(row))
}

// Close closes the files.
func (s *Set) Close() error {
	var errs []error
	for _, src := range s.sources {
		errs = append(errs, src.close())
	}
	return errors.Join(errs...)
}
