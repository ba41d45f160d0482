package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Version, commit, protocol and numerics id of this binary",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dev, err := cpu.New(1)
			if err != nil {
				return err
			}
			defer dev.Close()
			fmt.Fprintf(cmd.OutOrStdout(), "counterpoint %s (commit %s, %s %s/%s)\nprotocol %d-%d\nnumerics %s\n",
				version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH, wire.ProtocolMin, wire.ProtocolMax, dev.Numerics())
			return nil
		},
	}
}
