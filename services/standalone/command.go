package standalone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"tributary.dev/libs/app"
	"tributary.dev/libs/sqldb"
	"tributary.dev/services/privacy/certificate"
	"tributary.dev/services/privacy/registry"
)

// exitError ends the command line with a code, its fault having been printed.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// Command runs the command line and gives its exit code: 0, 1 for a failure, 2 for a fault of
// configuration or usage.
func Command(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use: "tributary", Short: "The channel-integration mesh", SilenceUsage: true, SilenceErrors: true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	ran := false // a fault before any command ran is one of usage
	root.PersistentPreRun = func(*cobra.Command, []string) { ran = true }
	root.AddCommand(upCommand(environ), verifyCommand(environ), restoreCommand(environ), settingsCommand(), deadCommand(environ), replayCommand(environ))
	err := root.ExecuteContext(ctx)
	var code exitError
	switch {
	case err == nil:
		return app.ExitOK
	case errors.As(err, &code):
		return int(code)
	}
	fmt.Fprintln(stderr, "tributary:", err)
	if !ran {
		return app.ExitConfig
	}
	return app.ExitFailed
}

func upCommand(environ []string) *cobra.Command {
	return &cobra.Command{
		Use: "up", Short: "Run the whole mesh in this process", Args: cobra.NoArgs,
		Long: `Run the whole mesh in this process, on an embedded broker and SQLite.

Settings come from the environment: PORT (8080), TRIBUTARY_DATA (.tributary) and those of all
services; "tributary settings" lists them.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return up(cmd.Context(), environ, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
}

func verifyCommand(environ []string) *cobra.Command {
	var keyFile string
	c := &cobra.Command{
		Use: "verify-certificate FILE", Short: "Check a certificate of erasure, offline", Args: cobra.ExactArgs(1),
		Long: `Check a certificate of erasure against the public key of the mesh that signed it. It asks nobody.

The key lies in <data>/` + certificateKeyFile + ` where the mesh runs, and is served at /v1/privacy/certificate-key:
fetch it once, over a way you trust, and keep it.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := os.ReadFile(keyFile)
			if err != nil {
				return fmt.Errorf("public key: %w", err)
			}
			public, err := certificate.DecodeKey(key)
			if err != nil {
				return fmt.Errorf("%s: %w", keyFile, err)
			}
			file, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			c, err := certificate.Verify(file, public)
			if err != nil {
				return fmt.Errorf("NOT VALID: %w", err)
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "valid: request %s, contact %s, %d subject(s)\n", c.RequestID, c.ContactID, len(c.SubjectIDs))
			fmt.Fprintf(out, "  signed with key %s, issued %s\n", certificate.KeyID(public), c.IssuedAt)
			for _, h := range c.Holders {
				fmt.Fprintf(out, "  %s deleted %v\n", h.Name, h.Deleted)
			}
			for _, e := range c.Exceptions {
				fmt.Fprintf(out, "  %s kept %d %s: %s\n", e.Holder, e.Count, e.What, e.Reason)
			}
			fmt.Fprintf(out, "  backups open nothing from %s on\n", c.BackupsUnreadableFrom)
			return nil
		},
	}
	data := lookup(environ, "TRIBUTARY_DATA", app.Defaults().Data)
	c.Flags().StringVar(&keyFile, "key", filepath.Join(data, certificateKeyFile), "the public key, as PEM")
	return c
}

func restoreCommand(environ []string) *cobra.Command {
	var database string
	c := &cobra.Command{
		Use: "restore-registry FILE", Short: "Restore the key registry from one of its backups", Args: cobra.ExactArgs(1),
		Long: `Restore the key registry from one of its backups, into a new database.

The mesh must not run. A database with anything in it is refused, and a backup that is not whole restores
nothing. When the registry is started it applies the erasure ledger before it answers anybody.`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			db, err := sqldb.Open(cmd.Context(), sqldb.Config{URL: database, Migrations: registry.Migrations})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, db.Close()) }()
			if err := registry.Restore(cmd.Context(), db, args[0]); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "restored")
			return nil
		},
	}
	data := lookup(environ, "TRIBUTARY_DATA", app.Defaults().Data)
	c.Flags().StringVar(&database, "database", "sqlite:"+filepath.Join(data, "privacy", "registry.db"), "URL of the registry's database")
	return c
}

func settingsCommand() *cobra.Command {
	var root string
	c := &cobra.Command{
		Use: "settings", Short: "List the settings of all services", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if root != "" {
				return writeSettings(root)
			}
			common := app.Defaults()
			fmt.Fprintf(cmd.OutOrStdout(), "Common to all services:\n\n%s", app.Table(&common))
			for _, s := range services() {
				fmt.Fprintf(cmd.OutOrStdout(), "\n%s:\n\n%s", s.Name, app.Docs(s))
			}
			return nil
		},
	}
	c.Flags().StringVar(&root, "write", "", "write the tables into the READMEs of the checkout that lies there")
	return c
}
