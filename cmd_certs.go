package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/counterpoint-ml/counterpoint/coordinator/credential"
)

func certsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "certs",
		Short: "Certificates of a fleet: a CA, coordinators, workers, operators, viewers",
		Long: `Every link between machines is TLS 1.3, and both ends show a certificate. A certificate says a role and a name:
coordinator, worker, operator (submits and steers runs) or viewer. The CA's key is needed to issue and renew
certificates and to make join tokens; keep it off the machines of the fleet.

Certificates are renewed in place: processes read them again by themselves, open connections live on.`,
		Example: `  counterpoint certs init ca --name fleet
  counterpoint certs issue --ca ca --role coordinator --name a --host 10.0.0.1 --host a.example
  counterpoint certs issue --ca ca --role worker --name workers --valid 90d
  counterpoint certs show a.pem workers.pem
  counterpoint certs renew a.pem --ca ca
  counterpoint certs token --ca ca --expires 24h --uses 8 --out join.token`,
	}
	cmd.AddCommand(certsInitCommand(), certsIssueCommand(), certsShowCommand(), certsRenewCommand(), certsTokenCommand())
	return cmd
}

func certsInitCommand() *cobra.Command {
	var q credential.AuthorityRequest
	valid := days(10 * 365 * 24 * time.Hour)
	cmd := &cobra.Command{
		Use:     "init FOLDER",
		Short:   "Make a CA: FOLDER/ca.pem, and FOLDER/ca.key (mode 600)",
		Example: "  counterpoint certs init ca\n  counterpoint certs init ca --name fleet --valid 5y --key ed25519",
		Args:    exactly("FOLDER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			q.Validity = time.Duration(valid)
			a, err := credential.NewAuthority(args[0], q)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s  %s, until %s\n%s  its key: keep it safe, it is needed to issue and renew\n",
				filepath.Join(args[0], credential.AuthorityName), a.Certificate.Subject.CommonName, a.Certificate.NotAfter.Format(time.DateOnly), filepath.Join(args[0], credential.AuthorityKey))
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&q.Name, "name", "counterpoint", "name of the fleet, for people")
	f.Var(&valid, "valid", "how long: 90d, 10y, 12h")
	f.StringVar(&q.Algorithm, "key", credential.P256, "kind of key: p256 or ed25519")
	f.BoolVar(&q.Force, "force", false, "replace a CA that is there; every certificate that it signed ends with it")
	return cmd
}

func certsIssueCommand() *cobra.Command {
	var q credential.Request
	var ca, role, out string
	var force bool
	valid := days(365 * 24 * time.Hour)
	cmd := &cobra.Command{
		Use:   "issue --ca FOLDER --role ROLE --name NAME [--host HOST]...",
		Short: "Issue a certificate: NAME.pem, and NAME.key (mode 600)",
		Example: `  counterpoint certs issue --ca ca --role coordinator --name a --host 10.0.0.1 --host a.example
  counterpoint certs issue --ca ca --role worker --name gpu7
  counterpoint certs issue --ca ca --role operator --name ann --valid 30d --out ~/.counterpoint`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if q.Role, err = credential.ParseRole(role); err != nil {
				return fmt.Errorf("--role: %w", err)
			}
			if q.Role == credential.Coordinator && len(q.Hosts) == 0 {
				return fmt.Errorf("--host is needed for a coordinator: every name and address that others reach it at")
			}
			q.Validity = time.Duration(valid)
			a, err := credential.OpenAuthority(ca)
			if err != nil {
				return err
			}
			i, err := a.Issue(q)
			if err != nil {
				return err
			}
			certificate, key, err := i.Write(out, q.Name, force)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s  %s, until %s\n%s\n", certificate, q.Member, i.NotAfter.Format(time.DateOnly), key)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&ca, "ca", "ca", "folder of the CA")
	f.StringVar(&role, "role", "", "coordinator, worker, operator or viewer")
	f.StringVar(&q.Name, "name", "", "name of the member, and of the files")
	f.StringArrayVar(&q.Hosts, "host", nil, "name or address that it is reached at; may be repeated")
	f.Var(&valid, "valid", "how long: 90d, 1y, 12h")
	f.StringVar(&q.Algorithm, "key", credential.P256, "kind of key: p256 or ed25519")
	f.StringVar(&out, "out", ".", "folder to write to")
	f.BoolVar(&force, "force", false, "replace files that are there")
	return cmd
}

func certsShowCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show FILE...",
		Short:   "Whom certificates are for, and until when",
		Example: "  counterpoint certs show a.pem ca/ca.pem\n  counterpoint certs show *.pem --json | jq -r '.[] | select(.days_left < 30) | .file'",
		Args:    atLeast("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var all []credential.Shown
			for _, name := range args {
				shown, err := credential.Show(name, time.Now())
				if err != nil {
					return err
				}
				all = append(all, shown...)
			}
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(all)
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "FILE\tROLE\tNAME\tHOSTS\tUNTIL\tSTATE\tISSUER")
			for _, s := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.File, s.Role, s.Name, strings.Join(s.Hosts, ","), s.Until.Format(time.DateOnly), s.State, s.Issuer)
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func certsRenewCommand() *cobra.Command {
	var ca, algorithm string
	var valid days
	cmd := &cobra.Command{
		Use:   "renew FILE... --ca FOLDER",
		Short: "Issue certificates again, with new keys, in place of FILE.pem and FILE.key",
		Long: `Role, name and hosts stay; the key is a new one. Processes that use the files take the new ones for their next
connections, without a restart.`,
		Example: "  counterpoint certs renew a.pem b.pem c.pem --ca ca\n  counterpoint certs renew workers.pem --ca ca --valid 90d",
		Args:    atLeast("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := credential.OpenAuthority(ca)
			if err != nil {
				return err
			}
			for _, name := range args {
				key := strings.TrimSuffix(name, filepath.Ext(name)) + ".key"
				i, err := a.Renew(name, key, time.Duration(valid), algorithm)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s  until %s\n", name, i.NotAfter.Format(time.DateOnly))
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&ca, "ca", "ca", "folder of the CA")
	f.Var(&valid, "valid", "how long; default: as long as before")
	f.StringVar(&algorithm, "key", credential.P256, "kind of key: p256 or ed25519")
	return cmd
}

// days is a duration flag that also takes days and years: 90d, 1y.
type days time.Duration

// Type implements pflag.Value.
func (d *days) Type() string { return "duration" }

// String implements pflag.Value.
func (d *days) String() string { return credential.FormatDuration(time.Duration(*d)) }

// Set implements pflag.Value.
func (d *days) Set(s string) error {
	v, err := credential.ParseDuration(s)
	*d = days(v)
	return err
}
