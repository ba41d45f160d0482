// Command genasm writes the Go assembly of trainer/engine/cpu/gemm.
//
//	go run ./scripts/genasm -dir trainer/engine/cpu/gemm
//
// A kernel is the same few lines for every tile height and edge, so the program states them once.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	dir := flag.String("dir", ".", "folder of the package gemm")
	flag.Parse()
	for name, text := range files() {
		path := filepath.Join(*dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			fmt.Fprintf(os.Stderr, "genasm: write %s: %v\n", path, err)
			os.Exit(1)
		}
	}
}

// files are the generated files by name.
func files() map[string]string {
	return map[string]string{
		"gen_strip_avx512_amd64.s": strip512(),
		"gen_strip_avx2_amd64.s":   strip256(),
		"gen_pack_avx512_amd64.s":  pack512(),
		"gen_pack_avx2_amd64.s":    pack256(),
		"gen_probe_amd64.s":        probe(),
		"gen_int8_avx512_amd64.s":  int512(),
		"gen_int8_avx2_amd64.s":    int256(),
	}
}
