package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/counterpoint-ml/counterpoint/coordinator/credential"
)

func certsTokenCommand() *cobra.Command {
	var ca, out string
	var uses int
	valid := days(24 * time.Hour)
	cmd := &cobra.Command{
		Use:   "token --ca FOLDER",
		Short: "Make a join token, with which workers' keys are admitted until it expires",
		Long: `A worker shows a join token with its first hello; its key is then admitted for good, and the token not needed
again. A token is good for --uses workers. It is signed by the CA: coordinators need nothing but ca.pem to check it.`,
		Example: `  counterpoint certs token --ca ca --expires 1h --out join.token
  counterpoint certs token --ca ca --expires 24h --uses 64 > join.token
  counterpoint worker --join tls://10.0.0.1:4222 --tls ca.pem,workers.pem,workers.key --join-token join.token`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := credential.OpenAuthority(ca)
			if err != nil {
				return err
			}
			token, join, err := a.JoinToken(time.Duration(valid), uses)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "join token %.8s: %s, until %s\n", join.ID, plural(uses, "use", "uses"), join.Expires.Format(time.DateTime+" UTC"))
			return giveToken(cmd.OutOrStdout(), out, token)
		},
	}
	f := cmd.Flags()
	f.StringVar(&ca, "ca", "ca", "folder of the CA")
	f.Var(&valid, "expires", "how long it can be used: 1h, 7d")
	f.IntVar(&uses, "uses", 1, "how many workers may join with it")
	f.StringVar(&out, "out", "", "file to write it to (mode 600), instead of printing it")
	return cmd
}

func tokenCommand() *cobra.Command {
	var role, name, file, out string
	var valid days
	cmd := &cobra.Command{
		Use:   "token --role operator|viewer --name NAME --file FILE",
		Short: "Make a bearer token for the HTTP API",
		Long: `The token is shown once; FILE, which cluster.tokens names, keeps its SHA-256 only. Coordinators read the file again
when it changes: a token is taken back by removing its line. An operator submits and steers runs, a viewer sees.`,
		Example: `  counterpoint token --role operator --name ann --file tokens.txt
  counterpoint token --role viewer --name wall --file tokens.txt --expires 30d --out wall.token
  curl -H "Authorization: Bearer $(cat wall.token)" --cacert ca.pem https://10.0.0.1:8300/v1/runs`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := credential.ParseRole(role)
			if err != nil {
				return fmt.Errorf("--role: %w", err)
			}
			token, err := credential.NewBearer(file, credential.Member{Role: r, Name: name}, time.Duration(valid))
			if err != nil {
				return err
			}
			return giveToken(cmd.OutOrStdout(), out, token)
		},
	}
	f := cmd.Flags()
	f.StringVar(&role, "role", "", "operator or viewer")
	f.StringVar(&name, "name", "", "whose it is, for people")
	f.StringVar(&file, "file", "tokens.txt", "file of the tokens' hashes; made if it is not there")
	f.Var(&valid, "expires", "how long it is good: 12h, 30d; left out: until its line is removed")
	f.StringVar(&out, "out", "", "file to write it to (mode 600), instead of printing it")
	return cmd
}

// giveToken prints a token, or writes it to a new file that only its owner can read.
func giveToken(stdout io.Writer, out string, token credential.Secret) error {
	if out == "" {
		_, err := fmt.Fprintln(stdout, token.Reveal())
		return err
	}
	f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(f, token.Reveal()); err != nil {
		f.Close()
		return fmt.Errorf("write %s: %w", out, err)
	}
	return f.Close()
}
