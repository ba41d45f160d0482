package main

// peerRow is a row of `make bench-peer`: one workload, by us and by peer_step.py, on the same token lengths.
type peerRow struct {
	name       string
	size       string // of peer_step.py
	args       []string
	pkg, match string  // our benchmark; %s of match is nothing
	bar, goal  float64 // of the ratio ours / peer
	share      float64 // of the FMA peak, in %, that counts as met too; 0 = none
	flops      float64 // a token, in units of N, the weights of the linear layers
	steps      int     // timed, in a round
	compile    bool    // has a torch.compile figure
}

var peerRows = []peerRow{
	{name: "tiny LoRA", size: "tiny", args: []string{"--mode", "lora", "--batch", "16"}, pkg: "./trainer", match: "^BenchmarkTrainStep$/^tiny$/^lora$", bar: 1.5, goal: 2.5, share: 55, flops: 4, steps: 12, compile: true},
	{name: "tiny full", size: "tiny", args: []string{"--mode", "full", "--batch", "16"}, pkg: "./trainer", match: "^BenchmarkTrainStep$/^tiny$/^full$", flops: 6, steps: 12, compile: true},
	{name: "small LoRA", size: "small", args: []string{"--mode", "lora", "--batch", "8"}, pkg: "./trainer", match: "^BenchmarkTrainStep$/^small$/^lora$", bar: 2, goal: 3, share: 55, flops: 4, steps: 6, compile: true},
	{name: "small full", size: "small", args: []string{"--mode", "full", "--batch", "8"}, pkg: "./trainer", match: "^BenchmarkTrainStep$/^small$/^full$", bar: 2, goal: 2.7, share: 55, flops: 6, steps: 6, compile: true},
	{name: "smollm2 LoRA", size: "smollm2", args: []string{"--mode", "lora", "--batch", "4"}, pkg: "./trainer", match: "^BenchmarkTrainStep$/^smollm2$/^lora$", bar: 2, goal: 2.8, share: 55, flops: 4, steps: 3, compile: true},
	{name: "smollm2 full", size: "smollm2", args: []string{"--mode", "full", "--batch", "4"}, pkg: "./trainer", match: "^BenchmarkTrainStep$/^smollm2$/^full$", bar: 2, goal: 3, share: 55, flops: 6, steps: 2, compile: true},
	{name: "qwen0.5b LoRA", size: "qwen0.5b", args: []string{"--mode", "lora", "--batch", "2", "--maxlen", "128"}, pkg: "./trainer", match: "^BenchmarkTrainStep$/^qwen0.5b$/^lora$", bar: 1.8, goal: 2.2, share: 55, flops: 4, steps: 3, compile: true},
	{name: "encode small", size: "small", args: []string{"--encode", "--batch", "16"}, pkg: encoder, match: "^BenchmarkEncode$/^small$/^fp32$", bar: 1.6, goal: 2.5, share: 55, flops: 2, steps: 6},
	{name: "encode smollm2", size: "smollm2", args: []string{"--encode", "--batch", "4"}, pkg: encoder, match: "^BenchmarkEncode$/^smollm2$/^fp32$", bar: 1.6, goal: 2.5, share: 55, flops: 2, steps: 4},
	{name: "encode qwen0.5b", size: "qwen0.5b", args: []string{"--encode", "--batch", "2", "--maxlen", "128"}, pkg: encoder, match: "^BenchmarkEncode$/^qwen0.5b$/^fp32$", bar: 1.6, goal: 2.5, share: 55, flops: 2, steps: 4},
	{name: "encode int8 small", size: "small", args: []string{"--encode", "--batch", "16"}, pkg: encoder, match: "^BenchmarkEncode$/^small$/^int8$", bar: 4, goal: 6, flops: 2, steps: 6},
	{name: "encode int8 smollm2", size: "smollm2", args: []string{"--encode", "--batch", "4"}, pkg: encoder, match: "^BenchmarkEncode$/^smollm2$/^int8$", bar: 4, goal: 6, flops: 2, steps: 4},
	{name: "encode int8 qwen0.5b", size: "qwen0.5b", args: []string{"--encode", "--batch", "2", "--maxlen", "128"}, pkg: encoder, match: "^BenchmarkEncode$/^qwen0.5b$/^int8$", bar: 4, goal: 6, flops: 2, steps: 4},
}

const encoder = "./trainer/encode"
