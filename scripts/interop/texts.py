"""The 32 texts that every row of the table embeds: several scripts, code, runs of blanks, special tokens written in the
text, decomposed accents, and some that are longer than the runs' limit of tokens. None is so short that it becomes one
token with a prompt's end: there sentence-transformers gives zeros and we do not (the model card says so)."""

TEXTS = [
    "how do I open a file for reading",
    "os.Open opens the named file for reading. If successful, methods on the returned file can be used for reading.",
    "command line tool to resize images in bulk",
    "ImageMagick creates, edits and composes bitmap images. " * 6,
    "what is the boiling point of water at high altitude",
    "At an altitude of 3,000 metres water boils at about 90 °C, because the pressure of the air is lower there.",
    "symptoms of vitamin D deficiency",
    "Fatigue, bone pain and muscle weakness may be signs of too little vitamin D; a blood test tells. " * 4,
    "wer schrieb „Die Verwandlung“?",
    "Franz Kafka veröffentlichte die Erzählung im Jahr 1915.",
    "recette de la soupe à l'oignon",
    "cafe\u0301 cre\u0300me, A\u030angstro\u0308m: accents that NFC joins",
    "天气预报 北京",
    "北京明天晴转多云,最高气温 12 摄氏度,北风三到四级。",
    "東京から大阪まで新幹線で何時間",
    "のぞみ号なら約二時間半で着きます。",
    "сколько лет Москве",
    "متى تأسست مدينة بغداد",
    "दिल्ली का मौसम कैसा है",
    "def fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)",
    "SELECT name, count(*) FROM users GROUP BY name HAVING count(*) > 1;",
    "https://example.org/path?query=1&other=two#fragment",
    "3.14159 2.71828 1.41421 1000000 42",
    "I'll say it's what WE'VE done; don't!",
    "emoji 😀👩‍🔬 and symbols ∑ ≤ ∞ →",
    "tabs\tand\n\nnew lines   and   runs of blanks   ",
    "  leading blanks and a trailing line end\n",
    "a special token <|endoftext|> in the middle",
    "UPPER lower MiXeD CamelCase snake_case kebab-case",
    "The quick brown fox jumps over the lazy dog.",
    "two words",
    "ends with a special token<|endoftext|>",
]
assert len(TEXTS) == 32
