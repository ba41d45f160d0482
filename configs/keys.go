package configs

import "github.com/counterpoint-ml/counterpoint/data"

// A Key describes one key of the YAML file: the schema is the table below, and everything that knows about
// keys (decoding, explanations, the JSON Schema, the environment) reads it from there.
type Key struct {
	Path    string   // dotted; "[]" stands for a list's elements
	Type    string   // string, int, float, bool, duration, strings, ints, floats, map, list; "int map" and "float map" have names of the user's own
	Default any      // nil = none
	Allowed []string // for strings: the words allowed, none = any
	Min     any      // smallest value, for numbers and durations
	Above   bool     // Min itself is not allowed
	Max     any
	Needed  bool // must be given
	repeats bool // a run's key, of a stage
	Doc     string
	Example string
}

// runKeys is the schema of a run, in the order in which a file usually has them.
var runKeys = []Key{
	{Path: "name", Type: "string", Needed: true, Doc: "Name of the run; its files go to runs/NAME.", Example: "debian-diffusion"},

	{Path: "model", Type: "map", Doc: "The backbone: a folder (path) or random weights (preset)."},
	{Path: "model.path", Type: "string", Doc: "Hugging Face folder (config.json, safetensors, tokenizer.json) or a checkpoint of Counterpoint.", Example: "./qwen2.5-0.5b"},
	{Path: "model.preset", Type: "string", Allowed: []string{"tiny-diffusion", "tiny-causal"}, Doc: "A small backbone with random weights drawn from train.seed.", Example: "tiny-diffusion"},
	{Path: "model.attention", Type: "string", Allowed: []string{"causal", "bidirectional", "annealed"}, Doc: "Attention mask in training; left out: what the family was made with. annealed opens the causal mask over model.anneal_steps.", Example: "bidirectional"},
	{Path: "model.anneal_steps", Type: "int", Min: 1, Doc: "annealed: steps until every token sees every other; step s lets a share (s+1)/anneal_steps of the pairs through that a causal mask hides, drawn anew at each step.", Example: "1000"},
	{Path: "model.eval_attention", Type: "string", Allowed: []string{"causal", "bidirectional"}, Doc: "Attention mask in evaluation; left out: as in training, and bidirectional where that is annealed. The paper's ablation flips it at test time.", Example: "causal"},
	{Path: "model.pooling", Type: "string", Default: "mean", Allowed: []string{"mean", "weighted_mean", "last_token", "first_token"}, Doc: "How the token states of a text become one embedding.", Example: "mean"},
	{Path: "model.pool_instruction", Type: "bool", Default: true, Doc: "Whether the instruction's tokens take part in the pooling.", Example: "true"},
	{Path: "model.merge", Type: "strings", Doc: "LoRA adapters merged into the weights before training, in this order: PEFT folders, or checkpoints or runs of Counterpoint.", Example: "[runs/mntp]"},
	{Path: "model.adapter", Type: "string", Doc: "LoRA adapter that training continues from, a PEFT folder or a checkpoint or run of Counterpoint; model.lora must have its rank, alpha and targets. Left out: a new adapter.", Example: "runs/first"},
	{Path: "model.lora", Type: "map", Doc: "Low-rank adapters; left out: all parameters train.", Example: "{rank: 16, alpha: 32, dropout: 0.05}"},
	{Path: "model.lora.rank", Type: "int", Default: 16, Min: 1, Max: 1024, Doc: "Rank r of every adapter.", Example: "16"},
	{Path: "model.lora.alpha", Type: "float", Default: 32.0, Min: 0.0, Above: true, Doc: "Scale: alpha/r, or alpha/sqrt(r) with rslora.", Example: "32"},
	{Path: "model.lora.dropout", Type: "float", Default: 0.0, Min: 0.0, Max: 0.99, Doc: "Chance that an element of an adapter's input is dropped, by counter-based random numbers.", Example: "0.05"},
	{Path: "model.lora.rslora", Type: "bool", Default: false, Doc: "Scale by alpha/sqrt(r).", Example: "false"},
	{Path: "model.lora.rank_pattern", Type: "int map", Min: 1, Max: 1024, Doc: "Other ranks for some modules, as in PEFT: the name's end, or a regular expression for it, and the rank. The scale is alpha over the module's own rank.", Example: "{q_proj: 32, layers.0.mlp.down_proj: 8}"},
	{Path: "model.lora.alpha_pattern", Type: "float map", Min: 0.0, Above: true, Doc: "Other alphas for some modules, named as in rank_pattern.", Example: "{q_proj: 64}"},
	{Path: "model.lora.targets", Type: "strings", Allowed: []string{"all-linear", "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}, Doc: "Linear layers that get an adapter; left out: all seven.", Example: "[q_proj, v_proj]"},

	{Path: "data", Type: "list", Needed: true, Doc: "Sources of training pairs: files of JSON lines, ours being {task, query, positive, negatives}, or those of other trainers (data[].format)."},
	{Path: "data[].path", Type: "string", Needed: true, Doc: "JSONL, JSONL.gz or Parquet file (of a table in parts all: train-*-of-00003.parquet), a folder of them (a source each), or a folder in BEIR layout (its qrels/train.tsv; or the path of other judgments there); relative to the YAML file.", Example: "pairs.jsonl.gz"},
	{Path: "data[].name", Type: "string", Doc: "Name in plans and reports; left out: the file's name.", Example: "debian"},
	{Path: "data[].format", Type: "string", Allowed: data.Formats, Doc: "Layout of the rows; left out: told from the keys of the first row, and printed in the plan.", Example: "tevatron"},
	{Path: "data[].instruction", Type: "string", Doc: "Put in front of each query as `instruction: `; left out: the row's own task; a single dash for none.", Example: "Given a query, retrieve the package it describes"},
	{Path: "data[].document_instruction", Type: "string", Doc: "Put in front of each document.", Example: ""},
	{Path: "data[].limit", Type: "int", Default: 0, Min: 0, Doc: "Use only the first N rows (of each file of a folder); 0 = all.", Example: "8000"},
	{Path: "data[].weight", Type: "float", Default: 0.0, Min: 0.0, Doc: "How often a step draws from this source, relative to the others; 0 = its number of rows.", Example: "2"},
	{Path: "data[].on_error", Type: "string", Default: "refuse", Allowed: []string{"refuse", "skip"}, Doc: "A bad line stops the run (refuse), or is left out and counted (skip).", Example: "skip"},

	{Path: "loss", Type: "map", Doc: "The objective."},
	{Path: "loss.kind", Type: "string", Default: "infonce", Allowed: []string{"infonce", "explicit", "masked-diffusion", "mntp", "causal-lm"}, Doc: "infonce and explicit (RepLLaMA: a query against its own positive and negatives only) fine-tune embeddings; the others train a backbone.", Example: "infonce"},
	{Path: "loss.temperature", Type: "float", Default: 0.05, Min: 1e-4, Max: 100.0, Doc: "tau of InfoNCE: similarities are divided by it.", Example: "0.02"},
	{Path: "loss.hard_negatives", Type: "int", Default: 1, Min: 0, Max: 255, Doc: "Hard negatives taken per query, at most; infonce: they are negatives of every query of the batch.", Example: "1"},
	{Path: "loss.symmetric", Type: "bool", Default: false, Doc: "Add the document-to-query direction.", Example: "true"},
	{Path: "loss.mask_duplicates", Type: "bool", Default: true, Doc: "Leave documents equal to the positive out of a query's negatives.", Example: "true"},
	{Path: "loss.mask_margin", Type: "float", Min: -2.0, Max: 2.0, Doc: "Leave negatives out that are more similar to the query than its positive by this margin (cosine), as likely unjudged positives; left out: none are.", Example: "0.1"},
	{Path: "loss.margin_strategy", Type: "string", Default: "absolute", Allowed: []string{"absolute", "relative"}, Doc: "What mask_margin is measured in: cosine (absolute), or the positive's own similarity (relative: above s + margin * |s|).", Example: "relative"},
	{Path: "loss.matryoshka", Type: "ints", Min: 1, Max: 1 << 20, Doc: "Sum the loss over embeddings cut to these numbers of leading dimensions and normalised again, so that cut ones serve too; list the full width to keep it. Left out: the full width alone.", Example: "[64, 128, 256]"},
	{Path: "loss.matryoshka_weights", Type: "floats", Min: 0.0, Doc: "Weight of each entry of loss.matryoshka; left out: 1 each.", Example: "[1, 1, 0.5]"},
	{Path: "loss.mask_rate", Type: "float", Default: 0.2, Min: 0.0, Above: true, Max: 1.0, Doc: "mntp: chance that a token is masked; the masked ones are predicted from the state before them, and their mean is the loss.", Example: "0.8"},
	{Path: "loss.mask_token", Type: "string", Doc: "mntp, masked-diffusion: the token of the vocabulary that stands for a masked one; left out: the model's mask_token_id.", Example: "_"},
	{Path: "loss.epsilon", Type: "float", Default: 1e-3, Min: 0.0, Above: true, Max: 0.5, Doc: "masked-diffusion: smallest masking rate t.", Example: "0.001"},
	{Path: "loss.shift", Type: "bool", Default: false, Doc: "masked-diffusion: predict token i from the state at i-1 (backbones made from causal ones).", Example: "false"},
	{Path: "loss.texts", Type: "string", Default: "all", Allowed: []string{"all", "documents", "queries"}, Doc: "masked-diffusion, mntp, causal-lm: which texts of a row are modelled.", Example: "all"},

	{Path: "train", Type: "map", Doc: "Batches, steps and the optimizer."},
	{Path: "train.batch", Type: "int", Default: 128, Min: 1, Max: 1 << 20, Doc: "Pairs in a global batch, whatever the number of workers.", Example: "512"},
	{Path: "train.steps", Type: "int", Needed: true, Min: 1, Doc: "Optimizer steps.", Example: "1000"},
	{Path: "train.max_length", Type: "int", Default: 512, Min: 2, Max: 1 << 20, Doc: "Tokens of a text, instruction included; longer texts are cut and counted.", Example: "512"},
	{Path: "train.seed", Type: "int", Default: 42, Min: 0, Doc: "Seed of the order, the masks, dropout and initial weights.", Example: "42"},
	{Path: "train.schedule", Type: "map", Doc: "Learning rate over the steps."},
	{Path: "train.schedule.peak", Type: "float", Needed: true, Min: 0.0, Above: true, Max: 10.0, Doc: "Highest learning rate.", Example: "1e-4"},
	{Path: "train.schedule.warmup", Type: "int", Default: 0, Min: 0, Doc: "Steps of linear rise; the first step already has peak/warmup.", Example: "100"},
	{Path: "train.schedule.decay", Type: "string", Default: "linear", Allowed: []string{"linear", "cosine", "constant"}, Doc: "What follows the warm-up.", Example: "linear"},
	{Path: "train.schedule.floor", Type: "float", Default: 0.0, Min: 0.0, Max: 1.0, Doc: "Where the decay ends, as a share of peak.", Example: "0.1"},
	{Path: "train.clip", Type: "float", Default: 1.0, Min: 0.0, Doc: "Largest global L2 norm of the gradient; 0 = no clipping.", Example: "1.0"},
	{Path: "train.beta1", Type: "float", Default: 0.9, Min: 0.0, Max: 0.9999, Doc: "AdamW's decay of the first moment.", Example: "0.9"},
	{Path: "train.beta2", Type: "float", Default: 0.999, Min: 0.0, Max: 0.999999, Doc: "AdamW's decay of the second moment.", Example: "0.999"},
	{Path: "train.epsilon", Type: "float", Default: 1e-8, Min: 0.0, Above: true, Max: 1.0, Doc: "AdamW's epsilon.", Example: "1e-8"},
	{Path: "train.weight_decay", Type: "float", Default: 0.0, Min: 0.0, Max: 10.0, Doc: "Decoupled weight decay, on matrices only.", Example: "0.01"},
	{Path: "train.shard_tokens", Type: "int", Default: 0, Min: 0, Max: 1 << 20, Doc: "Tokens of a logical shard; 0 = a 64th of a batch, between 2,048 (4,096 when all parameters train) and 32,768. Part of the run's identity.", Example: "4096"},
	{Path: "train.group", Type: "int", Default: 0, Min: 0, Doc: "Rows drawn from one source together; 0 = the whole batch is of one source.", Example: "4"},
	{Path: "train.remainder", Type: "string", Default: "wrap", Allowed: []string{"wrap", "drop"}, Doc: "The end of an epoch that fills no batch: wrap into the next epoch, or drop.", Example: "wrap"},

	{Path: "checkpoint", Type: "map", Doc: "When checkpoints are written and which are kept. Changes freely on resume."},
	{Path: "checkpoint.dir", Type: "string", Doc: "Folder; left out: runs/NAME/checkpoints.", Example: "/mnt/ckpt/run1"},
	{Path: "checkpoint.store", Type: "string", Doc: "Instead of checkpoint.dir an object store, or file:///FOLDER. After a ? may follow, joined by &: endpoint=https://HOST:PORT (else AWS_ENDPOINT_URL, else AWS), region=NAME, path_style=true, checksums=false, spool=GB that are kept on a worker's disk (16). Credentials are those of AWS's environment, of ~/.aws/credentials or of the machine's role.", Example: "s3://bucket/run1?endpoint=https://minio:9000"},
	{Path: "checkpoint.every", Type: "int", Default: 0, Min: 0, Doc: "Steps between checkpoints; 0 = only at the end.", Example: "100"},
	{Path: "checkpoint.keep", Type: "int", Default: 3, Min: 1, Doc: "Newest checkpoints kept, besides the best one.", Example: "3"},
	{Path: "checkpoint.best", Type: "string", Doc: "Metric of the first suite that chooses the best checkpoint.", Example: "ndcg@10"},

	{Path: "evaluate", Type: "map", Doc: "What is evaluated, and when. Changes freely on resume."},
	{Path: "evaluate.every", Type: "int", Default: 0, Min: 0, Doc: "Steps between evaluations; 0 = only at the end.", Example: "100"},
	{Path: "evaluate.at_start", Type: "bool", Default: false, Doc: "Evaluate before the first step too.", Example: "true"},
	{Path: "evaluate.suites", Type: "list", Doc: "Evaluation sets."},
	{Path: "evaluate.suites[].path", Type: "string", Needed: true, Doc: "Folder in BEIR layout (corpus, queries, qrels), or KIND:PATH with KIND sts, pairs, classification, clustering, rerank, bitext, summarization, followir, bright or longembed (longembed:passkey and longembed:needle are generated); or mteb:TASK:PATH, a local copy of one of mteb's tasks.", Example: "dev/"},
	{Path: "evaluate.suites[].name", Type: "string", Doc: "Name in tables; left out: the folder's name.", Example: "dev"},
	{Path: "evaluate.suites[].split", Type: "string", Doc: "qrels/SPLIT.tsv; left out: the only one there.", Example: "test"},
	{Path: "evaluate.suites[].instruction", Type: "string", Doc: "Put in front of each query; left out: the first source's instruction; a single dash for none.", Example: "Given a query, retrieve the package it describes"},
	{Path: "evaluate.suites[].document_instruction", Type: "string", Doc: "Put in front of each document; left out: the first source's; a single dash for none.", Example: ""},
	{Path: "evaluate.suites[].max_length", Type: "int", Default: 0, Min: 0, Doc: "Tokens of a text; 0 = train.max_length.", Example: "512"},
	{Path: "evaluate.suites[].max_query_length", Type: "int", Default: 0, Min: 0, Doc: "Tokens of a query; 0 = as of a text.", Example: "64"},
	{Path: "evaluate.suites[].metric", Type: "string", Doc: "Metric that stands for the suite; left out: the task's own.", Example: "ndcg@10"},
	{Path: "evaluate.suites[].lengths", Type: "ints", Min: 1, Doc: "longembed:passkey, longembed:needle: tokens of the documents made, a suite each; left out: 256, doubled up to 32768.", Example: "[256, 1024, 4096]"},
	{Path: "evaluate.suites[].seed", Type: "int", Default: 0, Min: 0, Doc: "longembed:passkey, longembed:needle: seed of the documents made.", Example: "1"},
	{Path: "evaluate.suites[].filler", Type: "string", Doc: "longembed:passkey, longembed:needle: text file, in any language, whose sentences fill the documents.", Example: "essays.txt"},
	{Path: "evaluate.suites[].long", Type: "bool", Default: false, Doc: "bright: rank the long documents.", Example: "true"},
	{Path: "evaluate.suites[].ignore_identical", Type: "bool", Default: false, Doc: "BEIR layout: a query does not find the document that has its id; mteb:ArguAna, FiQA2018 and QuoraRetrieval always do so.", Example: "true"},
	{Path: "evaluate.suites[].excluded", Type: "string", Allowed: []string{"remove", "zero", "keep"}, Doc: "bright: what becomes of a query's excluded documents: removed before the ranking is cut (BRIGHT's own rule and mteb's v1.1, the default), score 0 after the cut (DiffEmbed's), or kept (mteb's first); the suite's name says so.", Example: "remove"},

	{Path: "cluster", Type: "map", Doc: "Workers and failures. Changes freely on resume."},
	{Path: "cluster.workers", Type: "int", Default: 1, Min: 0, Max: 4096, Doc: "Local workers that `counterpoint train` starts.", Example: "2"},
	{Path: "cluster.failure_timeout", Type: "duration", Default: "1s", Min: "100ms", Max: "10m", Doc: "How long a silent worker or leader is waited for; every other timer derives from it.", Example: "1s"},
	{Path: "cluster.listen", Type: "string", Doc: "host:port of the embedded NATS server; left out: a free loopback port for `train`, 127.0.0.1:4222 for `coordinator`.", Example: "127.0.0.1:4222"},
	{Path: "cluster.api", Type: "string", Doc: "host:port of the HTTP API that `submit`, `runs`, `status` and the others ask; left out: 127.0.0.1:8300 for `coordinator` unless that is taken, none for `train`; none = none.", Example: "127.0.0.1:8300"},
	{Path: "cluster.tokens", Type: "string", Doc: "File of bearer tokens that the HTTP API takes, as `counterpoint token` writes it; relative to the YAML file. Left out: whoever is on this machine may do everything, if the API is on loopback.", Example: "tokens.txt"},
	{Path: "cluster.coordinators", Type: "list", Doc: "The coordinators: 1, 3 or 5, the same list in the file of each; left out: one alone. Each process says which it is by --name."},
	{Path: "cluster.coordinators[].name", Type: "string", Needed: true, Doc: "Its name; it stays with its folder.", Example: "a"},
	{Path: "cluster.coordinators[].raft", Type: "string", Needed: true, Doc: "host:port where the other coordinators reach its log.", Example: "10.0.0.1:7300"},
	{Path: "cluster.coordinators[].nats", Type: "string", Doc: "host:port where workers reach its NATS server; needed without cluster.nats.url.", Example: "10.0.0.1:4222"},
	{Path: "cluster.coordinators[].route", Type: "string", Doc: "host:port where the other NATS servers reach its own; needed without cluster.nats.url.", Example: "10.0.0.1:6222"},
	{Path: "cluster.coordinators[].api", Type: "string", Doc: "host:port of its HTTP API.", Example: "10.0.0.1:8300"},
	{Path: "cluster.nats", Type: "map", Doc: "Your own NATS servers, in place of those that the coordinators embed."},
	{Path: "cluster.nats.url", Type: "string", Doc: "nats://host:port, several separated by commas; max_payload must be 8 MiB or more. A worker that dies is then noticed by its silence only.", Example: "nats://10.0.0.9:4222"},
	{Path: "cluster.store", Type: "string", Default: "wal", Allowed: []string{"wal", "bolt"}, Doc: "Store of the Raft log: wal syncs the disk once an entry, bolt twice. A folder keeps the one it began with.", Example: "wal"},
	{Path: "cluster.mixed", Type: "bool", Default: false, Doc: "Accept workers whose kernels differ; the result then depends on which kind computed which shard.", Example: "true"},
	{Path: "cluster.audit", Type: "string", Default: "0", Doc: "Share of the shards whose gradients a second worker computes and compares before the step is closed: 1/64, or 0.02; 0 = none. Two workers notice a wrong one, three name it.", Example: "1/64"},
	{Path: "cluster.labels", Type: "strings", Doc: "Labels that a worker must have to be given to this run, all of them; workers say theirs with --labels.", Example: "[gpu=h200]"},
	{Path: "cluster.workers_min", Type: "int", Default: 0, Min: 0, Max: 4096, Doc: "The run works only while it has as many workers; below that it waits, and others may have those that it has. 0 = 1.", Example: "2"},
	{Path: "cluster.workers_max", Type: "int", Default: 0, Min: 0, Max: 4096, Doc: "Most workers that the run is given; 0 = all that match and no run before it has.", Example: "8"},
	{Path: "cluster.kernels", Type: "string", Allowed: []string{"avx512", "avx2", "portable"}, Doc: "CPU kernels that every worker uses; left out: the best the first worker has.", Example: "avx2"},
	{Path: "cluster.tls", Type: "map", Doc: "Certificates of this process (counterpoint certs makes them); needed to listen outside loopback. All links are then TLS 1.3, and both ends show a certificate."},
	{Path: "cluster.tls.ca", Type: "string", Doc: "PEM file of the CA's certificate, relative to the YAML file; during a change of CA of both.", Example: "ca/ca.pem"},
	{Path: "cluster.tls.certificate", Type: "string", Doc: "PEM file of this process's certificate; read again when it changes.", Example: "a.pem"},
	{Path: "cluster.tls.key", Type: "string", Doc: "PEM file of its key, mode 600.", Example: "a.key"},
	{Path: "cluster.admit", Type: "string", Default: "token", Allowed: []string{"token", "certificate"}, Doc: "With tls, how a worker's key comes in: by a join token, shown once (counterpoint certs token), or by its certificate alone.", Example: "certificate"},
	{Path: "cluster.insecure", Type: "bool", Default: false, Doc: "Listen outside loopback without tls: whoever reaches the address may do everything.", Example: "false"},
	{Path: "cluster.threads", Type: "int", Default: 0, Min: 0, Max: 1024, Doc: "Threads of a worker; 0 = cores shared among the local workers.", Example: "8"},

	{Path: "log", Type: "map", Doc: "Where a run's files go."},
	{Path: "log.dir", Type: "string", Doc: "Folder of the Raft log, metrics and report; left out: runs/NAME.", Example: "runs/debian"},
	{Path: "log.level", Type: "string", Default: "info", Allowed: []string{"debug", "info", "warn", "error"}, Doc: "Smallest level written to the log file.", Example: "info"},
}

// find returns the key of a path whose list indices are written as "[]".
func find(path string) (Key, bool) {
	for _, k := range Keys {
		if k.Path == path {
			return k, true
		}
	}
	return Key{}, false
}

// paths returns every key's path, in schema order.
func paths() []string {
	all := make([]string, len(Keys))
	for i, k := range Keys {
		all[i] = k.Path
	}
	return all
}

// children returns the names directly below a path ("" = the top level), in schema order.
func children(path string) []string {
	var names []string
	for _, k := range Keys {
		parent, name := split(k.Path)
		if parent == path {
			names = append(names, name)
		}
	}
	return names
}

// split cuts a schema path into parent and last name; the parent of "data[].path" is "data[]".
func split(path string) (parent, name string) {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '.' {
			return path[:i], path[i+1:]
		}
	}
	return "", path
}
