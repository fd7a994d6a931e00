package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"oidc-provider/discovery"
	"oidc-provider/internal/config"
	"oidc-provider/internal/fleet"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/mirror"
	"oidc-provider/internal/publish"
	"oidc-provider/internal/store"
	"oidc-provider/rotation"
	"oidc-provider/web"
)

func newExportCommand() *cobra.Command {
	var (
		ring   ringFlags
		output outputFlag
		out    string
	)
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the documents as files for a web server or a bucket",
		Long: `Write the documents of an issuer, or of all issuers of a configuration file, as
files: those of https://HOST/PATH below DIR/HOST/PATH, so that DIR/HOST is what a
web server or a bucket for HOST serves. Files whose content is the same are not
touched; each of the others is replaced in one step. Nothing else in DIR is
looked at: the files of issuers that are gone are yours to remove.

Serve the key set as application/jwk-set+json and the configuration as
application/json, both with Cache-Control: max-age of a few minutes.

An issuer that cannot be read keeps its files; the others are written, and the exit
status is 1. Repeat this at least four times within
the publish-ahead of a ring: servers rotate without waiting for files, unless they are
a registered copy of the ring: see 'keys copies'.`,
		Example: `  oidc-provider export --out public --store /var/lib/oidc-provider
  oidc-provider export --out public --config config.yaml && aws s3 sync public/oidc.example.com s3://oidc-example-com`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				return hint.Errorf("the directory to write to", "--out is required")
			}
			if err := ring.check(cmd); err != nil {
				return err
			}
			var results []exported
			if ring.file == "" {
				results = []exported{exportRing(cmd.Context(), ring.store, ring.issuer, out)}
			} else {
				cfg, issuers, err := loadAll(ring.file)
				if cfg == nil {
					return err
				}
				if err != nil {
					warn(cmd, "%v", err)
				}
				results = exportAll(cmd.Context(), cfg, issuers, out)
			}
			return printExported(cmd, results, &output)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "directory to write to")
	ring.add(cmd)
	output.add(cmd, "table")
	return cmd
}

// exportInfo is what `export -o json` shows.
type exportInfo struct {
	Issuers []exported `json:"issuers"`
}

// exported is what became of the files of an issuer.
type exported struct {
	Issuer string `json:"issuer"`
	// Written are the files that were new or had changed, Unchanged the others.
	Written   []string `json:"written"`
	Unchanged []string `json:"unchanged"`
	// Warning says that the documents are good ones and not fresh, Error that
	// nothing was written.
	Warning string `json:"warning,omitempty"`
	Error   string `json:"error,omitempty"`
}

// exportRing writes the documents of the ring in a store, which must be that of
// issuer unless that is "".
func exportRing(ctx context.Context, cfg store.Config, issuer, out string) exported {
	ring, err := readRing(ctx, cfg, issuer)
	if err != nil {
		return exported{Issuer: cmp.Or(issuer, cfg.Store), Error: hint.Text(err, flagName)}
	}
	docs, err := newExport(ring.Issuer)
	if err == nil {
		err = docs.Publish(ctx, rotation.NewView(ring))
	}
	if err != nil {
		return exported{Issuer: ring.Issuer, Error: err.Error()}
	}
	return writeDocuments(docs, out, nil)
}

// newExport makes the documents of issuer, with nothing to show yet.
func newExport(issuer string) (*web.Documents, error) {
	parsed, err := discovery.ParseIssuer(issuer)
	if err != nil {
		return nil, err
	}
	return web.NewDocuments(web.DocumentsConfig{Issuer: parsed}), nil
}

// exportWorkers is how many issuers are asked at a time.
const exportWorkers = 16

func exportAll(ctx context.Context, cfg *config.Config, issuers []config.Issuer, out string) []exported {
	results := make([]exported, len(issuers))
	var g errgroup.Group
	g.SetLimit(exportWorkers)
	for i := range issuers {
		g.Go(func() error {
			if m := issuers[i].Managed; m != nil {
				results[i] = exportRing(ctx, m.Config, issuers[i].Issuer, out)
			} else {
				results[i] = exportMirror(ctx, &issuers[i], cfg.StateDir, out)
			}
			return nil
		})
	}
	g.Wait()
	return results
}

// exportMirror asks the source of an issuer, or goes by what a server has kept
// of it.
func exportMirror(ctx context.Context, i *config.Issuer, stateDir, out string) exported {
	docs, err := newExport(i.Issuer)
	if err != nil {
		return exported{Issuer: i.Issuer, Error: err.Error()}
	}
	c, err := fleet.MirrorConfig(i, stateDir)
	if err != nil {
		return exported{Issuer: i.Issuer, Error: err.Error()}
	}
	// What matters comes back; and the state is the server's to write.
	c.Publish, c.Log, c.ReadOnly = docs.Show, slog.New(slog.DiscardHandler), true
	return writeDocuments(docs, out, mirror.New(c).Refresh(ctx))
}

// writeDocuments writes what docs show. stale is why that is not the newest.
func writeDocuments(docs *web.Documents, out string, stale error) exported {
	issuer := docs.Issuer()
	e := exported{Issuer: issuer.String(), Written: []string{}, Unchanged: []string{}}
	files := docs.Files()
	switch {
	case stale != nil && files == nil:
		e.Error = stale.Error()
		return e
	case stale != nil:
		e.Warning = stale.Error()
	}
	written, unchanged, err := publish.WriteFiles(out, issuer, files)
	e.Written, e.Unchanged = append(e.Written, written...), append(e.Unchanged, unchanged...)
	if err != nil {
		e.Error = err.Error()
	}
	return e
}

func printExported(cmd *cobra.Command, results []exported, output *outputFlag) error {
	failed := 0
	for _, e := range results {
		if e.Error != "" {
			failed++
			warn(cmd, "issuer %s was left as it was: %s", e.Issuer, e.Error)
		} else if e.Warning != "" {
			warn(cmd, "issuer %s: what was known before was written: %s", e.Issuer, e.Warning)
		}
	}
	if output.structured() {
		if err := output.write(cmd.OutOrStdout(), exportInfo{results}); err != nil {
			return err
		}
	} else if err := printExportTable(cmd, results); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d issuers could not be exported", failed, len(results))
	}
	return nil
}

func printExportTable(cmd *cobra.Command, results []exported) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "FILE\tSTATUS")
	for _, e := range results {
		for _, name := range e.Written {
			fmt.Fprintf(w, "%s\twritten\n", name)
		}
		for _, name := range e.Unchanged {
			fmt.Fprintf(w, "%s\tunchanged\n", name)
		}
	}
	return w.Flush()
}
