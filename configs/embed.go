package configs

import _ "embed"

// Example is a commented run file to start from.
//
//go:embed examples/run.yaml
var Example string
