package configs

import "embed"

// Example is a commented run file to start from.
//
//go:embed examples/run.yaml
var Example string

// Quickstart holds the quickstart's run files and data: the folder quickstart/.
//
//go:embed quickstart
var Quickstart embed.FS
