package hub

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// Formats of an exported folder.
const (
	PEFTFormat     = "peft"
	SentenceFormat = "sentence-transformers"
	ModelFormat    = "huggingface"
)

// Card is what the README.md of an exported folder says.
type Card struct {
	Name       string // of the run
	Format     string
	Base       string // what was fine-tuned; "" = nothing: trained from random weights
	Step       int64
	Version    string
	Parameters string // digest
	Sentence
	Causal     bool
	OwnConfig  bool // an adapter's folder has a config.json, since the base's has another attention
	Family     string
	Rows       [][2]string        // recipe: name and value
	Data       []string           // sources
	Stages     []CardStage        // the runs before, in their order
	Matryoshka []int              // leading dimensions that are embeddings too
	Stacked    int                // adapters that this one is made of; 0 or 1 = its own
	Scores     map[string]float64 // of the last evaluation
	Checks     []string           // what the export has compared
}

// CardStage is a run that made what the card's run, or another stage, began with.
type CardStage struct {
	Name string
	Step int64
	Took string // weights, merged, continued: what the next one took from it
	Rows [][2]string
	Data []string
}

// took says what the next run began with.
var took = map[string]string{
	"weights": "its weights were handed over", "merged": "its adapter was merged into the weights", "continued": "its adapter was trained on",
}

// Text returns the card as Markdown.
func (c *Card) Text() []byte {
	var b strings.Builder
	library := map[string]string{PEFTFormat: "peft", SentenceFormat: "sentence-transformers", ModelFormat: "transformers"}[c.Format]
	fmt.Fprintf(&b, "---\nlibrary_name: %s\npipeline_tag: feature-extraction\ntags:\n- feature-extraction\n- sentence-similarity\n- %s\n- counterpoint\n", library, library)
	if strings.Count(c.Base, "/") == 1 && !strings.HasPrefix(c.Base, "/") { // a name on the hub
		fmt.Fprintf(&b, "base_model: %s\n", c.Base)
	}
	fmt.Fprintf(&b, "---\n\n# %s\n\nA text embedding model of %d dimensions, exported from step %d of the run `%s`.\n", c.Name, c.Dimension, c.Step, c.Name)
	b.WriteString("Texts become unit vectors: their dot product is their cosine similarity.\n\n## Use\n\n```python\n" + c.usage() + "```\n\n")
	fmt.Fprintf(&b, "From the command line: `counterpoint embed FOLDER < texts.jsonl`.\n\n")
	c.notes(&b)
	table := func(title string, rows [][2]string) {
		if len(rows) == 0 {
			return
		}
		fmt.Fprintf(&b, "\n## %s\n\n| | |\n|---|---|\n", title)
		for _, r := range rows {
			fmt.Fprintf(&b, "| %s | %s |\n", r[0], strings.ReplaceAll(r[1], "|", `\|`))
		}
	}
	data := func(title string, lines []string) {
		if len(lines) > 0 {
			fmt.Fprintf(&b, "\n## %s\n\n", title)
		}
		for _, d := range lines {
			fmt.Fprintf(&b, "- %s\n", d)
		}
	}
	for i, s := range c.Stages {
		title := fmt.Sprintf("Stage %d of %d: %s, step %d", i+1, len(c.Stages)+1, s.Name, s.Step)
		table(title+"; "+took[s.Took], s.Rows)
		data("Data of stage "+s.Name, s.Data)
	}
	recipe := "Recipe"
	if n := len(c.Stages); n > 0 {
		recipe = fmt.Sprintf("Recipe, stage %d of %d: %s", n+1, n+1, c.Name)
	}
	table(recipe, append([][2]string{{"base", c.base()}}, c.Rows...))
	data("Data", c.Data)
	var scores [][2]string
	for name, v := range c.Scores {
		scores = append(scores, [2]string{name, fmt.Sprintf("%.4f", v)})
	}
	sort.Slice(scores, func(i, j int) bool { return scores[i][0] < scores[j][0] })
	table("Results", scores)
	if len(scores) == 0 {
		b.WriteString("\n## Results\n\nThe checkpoint holds no evaluation. `counterpoint eval FOLDER SUITE` makes one.\n")
	}
	b.WriteString("\n## Where this is from\n\n")
	fmt.Fprintf(&b, "Counterpoint %s, parameters `%.16s`.\n", c.Version, c.Parameters)
	for _, line := range c.Checks {
		fmt.Fprintf(&b, "%s\n", line)
	}
	return []byte(b.String())
}

func (c *Card) base() string {
	switch c.Base {
	case "":
		return "random weights"
	case "base":
		return "the folder `base` here, which exists nowhere else"
	}
	return c.Base
}

func (c *Card) notes(b *strings.Builder) {
	attention := "causal"
	if !c.Causal {
		attention = "bidirectional"
	}
	fmt.Fprintf(b, "Attention is %s, pooling is %s", attention, strings.ReplaceAll(c.Pooling, "_", " "))
	if !c.PoolPrompt {
		b.WriteString(" without the prompt's tokens")
	}
	fmt.Fprintf(b, ", texts are cut at %d tokens, prompt included; no special tokens are put around them.\n", c.MaxLength)
	if !c.Causal && (c.Family == "llama" || c.Family == "mistral" || c.Family == "qwen2" || c.Family == "qwen3") {
		b.WriteString("**transformers 5 or later is needed**: older versions ignore `\"is_causal\": false` in config.json and give other embeddings.\n")
	}
	if !c.PoolPrompt {
		b.WriteString("A text so short that it becomes one token with the prompt's end has nothing left to pool: sentence-transformers gives zeros, Counterpoint pools its last token.\n")
	}
	if c.Stacked > 1 {
		fmt.Fprintf(b, "The adapter is %d adapters in one, over the base as it was: the run trained the last of them over weights with the others merged into them.\n", c.Stacked)
	}
	if c.OwnConfig {
		b.WriteString("The base's config.json says otherwise: `config.json` of this folder has to be given to AutoModel, as above. A library that loads the folder by itself, without the base's name, does not do so and stops with an error.\n")
	}
	if len(c.Matryoshka) > 0 {
		fmt.Fprintf(b, "It was trained to be cut: the first %s dimensions are embeddings too, once they are normalised again, as by "+
			"`SentenceTransformer(FOLDER, truncate_dim=%d)` with `normalize_embeddings=True`, or `counterpoint embed --dimensions %d`.\n",
			strings.Join(strings.Fields(strings.Trim(fmt.Sprint(c.Matryoshka), "[]")), ", "), slices.Min(c.Matryoshka), slices.Min(c.Matryoshka))
	}
	var names []string
	for name, text := range c.Prompts {
		if text != "" {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Fprintf(b, "The prompt `%s` is %q, put before the text as it is.\n", name, c.Prompts[name])
	}
}

// usage is a program in Python that embeds a query and a document.
func (c *Card) usage() string {
	remote, states := "", "model(**x).last_hidden_state"
	if c.Family == "Dream" || c.Family == "llada" {
		remote, states = ", trust_remote_code=True", "model(**x, output_hidden_states=True).hidden_states[-1]"
	}
	if c.Format == SentenceFormat { // without code of its own: Portable
		return `from sentence_transformers import SentenceTransformer

model = SentenceTransformer("FOLDER")
queries = model.encode(["how do I open a file"], prompt_name="query")
documents = model.encode(["os.Open opens a file for reading."], prompt_name="document")
print(model.similarity(queries, documents))
`
	}
	var b strings.Builder
	base := c.Base
	if base == "base" { // comes with the adapter
		base = "FOLDER/base"
	}
	b.WriteString("import torch\n")
	if c.Format == PEFTFormat {
		b.WriteString("from peft import PeftModel\n")
	}
	b.WriteString("from transformers import AutoConfig, AutoModel, AutoTokenizer\n\n")
	b.WriteString("tokenizer = AutoTokenizer.from_pretrained(\"FOLDER\"" + remote + ")\n")
	if c.Format == PEFTFormat {
		fmt.Fprintf(&b, "base = %q\n", base)
		config := ""
		switch {
		case c.OwnConfig && remote == "": // attention and window are those of the run, not of the base
			config = ", config=config"
			b.WriteString("config = AutoConfig.from_pretrained(\"FOLDER\")\n")
		case c.OwnConfig: // the code lies beside the base's config
			config = ", config=config"
			fmt.Fprintf(&b, "config = AutoConfig.from_pretrained(base%s)\nconfig.is_causal = %s\n", remote, map[bool]string{true: "True", false: "False"}[c.Causal])
		}
		fmt.Fprintf(&b, "model = AutoModel.from_pretrained(base%s, dtype=torch.float32%s)  # not AutoModelForCausalLM: the keys would not match\n", config, remote)
		b.WriteString("model = PeftModel.from_pretrained(model, \"FOLDER\").eval()\n")
	} else {
		b.WriteString("model = AutoModel.from_pretrained(\"FOLDER\"" + remote + ").eval()\n")
	}
	fmt.Fprintf(&b, "\ndef embed(texts, prompt=\"\"):\n    x = tokenizer([prompt + t for t in texts], padding=True, truncation=True, max_length=%d, return_tensors=\"pt\")\n", c.MaxLength)
	b.WriteString("    with torch.no_grad():\n        h = " + states + "\n    m = x[\"attention_mask\"].unsqueeze(-1).float()\n")
	if !c.PoolPrompt {
		b.WriteString("    m[:, : len(tokenizer(prompt)[\"input_ids\"])] = 0\n")
	}
	b.WriteString(map[string]string{
		Mean:         "    e = (h * m).sum(1) / m.sum(1)\n",
		WeightedMean: "    w = m * m.cumsum(1)\n    e = (h * w).sum(1) / w.sum(1)\n",
		LastToken:    "    e = h[torch.arange(len(texts)), x[\"attention_mask\"].sum(1) - 1]\n",
		FirstToken:   "    e = h[torch.arange(len(texts)), m.squeeze(-1).argmax(1)]\n",
	}[c.Pooling])
	b.WriteString("    return torch.nn.functional.normalize(e, dim=1)\n\n")
	fmt.Fprintf(&b, "queries = embed([\"how do I open a file\"], %s)\n", quoted(c.Prompts["query"]))
	fmt.Fprintf(&b, "documents = embed([\"os.Open opens a file for reading.\"], %s)\nprint(queries @ documents.T)\n", quoted(c.Prompts["document"]))
	return b.String()
}

// quoted is a string in Python.
func quoted(s string) string { return fmt.Sprintf("%q", s) }
