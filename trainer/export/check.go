package export

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/counterpoint-ml/counterpoint/checkpoints/hub"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/encode"
)

// check embeds the sample texts by the written folder and by the checkpoint, each as it says itself, every second text
// as a query.
func (x *exporter) check(ctx context.Context, dir string, r *Result) error {
	o := encode.Options{}
	if x.o.Format == hub.PEFTFormat && !x.ships {
		o.Base = x.home // the name that is written may be one on the hub
	}
	written, err := encode.Open(ctx, dir, x.dev, o)
	if err != nil {
		return err
	}
	defer written.Close()
	if written.Width() != x.reference.Width() {
		return fmt.Errorf("it has %d dimensions, the checkpoint %d", written.Width(), x.reference.Width())
	}
	var both [2][]data.Text
	for i, text := range samples {
		role := [2]string{"query", "document"}[i%2]
		ours := x.reference.Prompts[role]
		theirs, err := written.Prompt(role)
		if err != nil {
			return err
		}
		b, _ := written.Tokenize(theirs, text)
		if int(b.Prompt) == len(b.Tokens) { // the text melts into the prompt: the card has a word about it
			ours, theirs = "", ""
			b, _ = written.Tokenize(theirs, text)
		}
		a, _ := x.reference.Tokenize(ours, text)
		if !slices.Equal(a.Tokens, b.Tokens) {
			return fmt.Errorf("%q has the tokens %v in the folder, %v in the checkpoint", text, b.Tokens, a.Tokens)
		}
		both[0], both[1] = append(both[0], a), append(both[1], b)
	}
	want, err := x.reference.Embed(ctx, both[0])
	if err != nil {
		return err
	}
	got, err := written.Embed(ctx, both[1])
	if err != nil {
		return err
	}
	r.Texts = len(samples)
	for i := range want {
		if d := math.Abs(float64(want[i]) - float64(got[i])); !(d <= r.Difference) { // NaN too
			r.Difference = d
		}
	}
	if !(r.Difference <= r.Bound) {
		return fmt.Errorf("an embedding of the folder differs by %g from the checkpoint's, at most %g is allowed; nothing was kept", r.Difference, r.Bound)
	}
	return nil
}

// samples are texts of several kinds, lengths and scripts.
var samples = []string{
	"how do I open a file for reading",
	"os.Open opens the named file for reading. If successful, methods on the returned file can be used for reading.",
	"command line tool to resize images in bulk",
	"ImageMagick is a software suite to create, edit, and compose bitmap images. It can read, convert and write images in a large variety of formats.",
	"what is the boiling point of water at high altitude",
	"At an altitude of 3,000 metres water boils at about 90 °C, because the pressure of the air is lower there.",
	"symptoms of vitamin D deficiency",
	"Fatigue, bone pain and muscle weakness may be signs of too little vitamin D; a blood test tells.",
	"capital of Australia",
	"Canberra became the capital in 1913 as a compromise between Sydney and Melbourne.",
	"difference between TCP and UDP",
	"TCP delivers a stream in order and repeats what was lost; UDP sends single datagrams and promises nothing.",
	"wer schrieb Die Verwandlung",
	"Franz Kafka veröffentlichte die Erzählung im Jahr 1915 in der Zeitschrift „Die weißen Blätter“.",
	"recette de la soupe à l'oignon",
	"Faites revenir les oignons émincés dans le beurre, ajoutez le bouillon, puis gratinez avec du fromage.",
	"天气预报 北京",
	"北京明天晴转多云,最高气温 12 摄氏度,北风三到四级。",
	"東京から大阪まで新幹線で何時間",
	"のぞみ号なら約二時間半で着きます。",
	"сколько лет Москве",
	"Первое летописное упоминание Москвы относится к 1147 году.",
	"a",
	"def fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)",
	"SELECT name, count(*) FROM users GROUP BY name HAVING count(*) > 1;",
	"https://example.org/path?query=1&other=two#fragment",
	"3.14159 2.71828 1.41421 1.61803",
	"I'll say it's what we've done; don't!",
	"emoji 😀 and symbols ∑ ≤ ∞ →",
	"tabs\tand\n\nnew lines   and   runs of blanks",
	"UPPER lower MiXeD CamelCase snake_case kebab-case",
	"The quick brown fox jumps over the lazy dog. Pack my box with five dozen liquor jugs. How vexingly quick daft zebras jump! Sphinx of black quartz, judge my vow.",
}
