package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"oidc-provider/config"
	"oidc-provider/discovery"
	"oidc-provider/rotation"
	"oidc-provider/web"
)

func newExportCommand() *cobra.Command {
	var (
		store  storeFlags
		output outputFlag
		file   string
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

An issuer that cannot be read keeps the files that it has; the others are written
all the same, and the exit status is 1. Repeat this at least four times within
the publish-ahead of a ring: servers hand over without waiting for files.`,
		Example: `  oidc-provider export --out public --store /var/lib/oidc-provider
  oidc-provider export --out public --config config.yaml && aws s3 sync public/oidc.example.com s3://oidc-example-com`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				return errors.New("--out is required (hint: the directory to write to)")
			}
			if file != "" && cmd.Flags().Changed("store") {
				return errors.New("--config and --store exclude each other")
			}
			log := slog.New(slog.DiscardHandler) // what matters is in the table
			var results []exported
			if file == "" {
				results = []exported{exportRing(cmd.Context(), &store, out)}
			} else {
				cfg, issuers, err := loadAll(file)
				if cfg == nil {
					return err
				}
				if err != nil {
					warn(cmd, "%v", err)
				}
				results = exportAll(cmd.Context(), cfg, issuers, out, log)
			}
			return printExported(cmd, results, output.json())
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "directory to write to")
	cmd.Flags().StringVar(&file, "config", "", "configuration file of serve, for all of its issuers; without it that of the ring in --store")
	store.add(cmd.Flags())
	output.add(cmd, "table")
	return cmd
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

// exportRing writes the documents of the ring in a store, whosever it is.
func exportRing(ctx context.Context, flags *storeFlags, out string) exported {
	store, err := flags.openStore()
	var ring *rotation.Ring
	if err == nil {
		ring, err = rotation.Read(ctx, store)
	}
	if err != nil {
		return exported{Issuer: flags.spec, Error: err.Error()}
	}
	issuer, err := discovery.ParseIssuer(ring.Issuer)
	if err != nil {
		return exported{Issuer: ring.Issuer, Error: err.Error()}
	}
	docs := web.NewDocuments(web.DocumentsConfig{Issuer: issuer})
	if err := docs.Publish(ctx, rotation.NewView(ring)); err != nil {
		return exported{Issuer: ring.Issuer, Error: err.Error()}
	}
	return writeDocuments(issuer, docs, out, nil)
}

// exportWorkers is how many issuers are asked at a time.
const exportWorkers = 16

func exportAll(ctx context.Context, cfg *config.Config, issuers []config.Issuer, out string, log *slog.Logger) []exported {
	results := make([]exported, len(issuers))
	var g errgroup.Group
	g.SetLimit(exportWorkers)
	for i := range issuers {
		g.Go(func() error {
			results[i] = exportIssuer(ctx, cfg, &issuers[i], out, log)
			return nil
		})
	}
	g.Wait()
	return results
}

func exportIssuer(ctx context.Context, cfg *config.Config, i *config.Issuer, out string, log *slog.Logger) exported {
	if i.Managed != nil {
		e := exportRing(ctx, storeOf(i.Managed), out)
		if e.Issuer != i.Issuer && e.Error == "" {
			e.Error = fmt.Sprintf("the ring belongs to issuer %q (hint: the files of that were written)", e.Issuer)
		}
		e.Issuer = i.Issuer
		return e
	}
	issuer, err := discovery.ParseIssuer(i.Issuer)
	if err != nil {
		return exported{Issuer: i.Issuer, Error: err.Error()}
	}
	docs := web.NewDocuments(web.DocumentsConfig{Issuer: issuer})
	m, err := newMirrored(i, issuer, docs, cfg.StateDir, log)
	if err != nil {
		return exported{Issuer: i.Issuer, Error: err.Error()}
	}
	return writeDocuments(issuer, docs, out, m.Refresh(ctx))
}

// writeDocuments writes what docs show. stale is why that is not the newest.
func writeDocuments(issuer discovery.Issuer, docs *web.Documents, out string, stale error) exported {
	e := exported{Issuer: issuer.String(), Written: []string{}, Unchanged: []string{}}
	files := docs.Files()
	switch {
	case stale != nil && files == nil:
		e.Error = stale.Error()
		return e
	case stale != nil:
		e.Warning = stale.Error()
	}
	if err := e.write(issuer, files, out); err != nil {
		e.Error = err.Error()
	}
	return e
}

// makeOut is held by whoever makes directories, which may be the same.
var makeOut sync.Mutex

func (e *exported) write(issuer discovery.Issuer, files map[string][]byte, out string) error {
	u := issuer.URL()
	dir := path.Join(out, discovery.Hostname(u.Host))
	makeOut.Lock()
	err := os.MkdirAll(dir, 0o755)
	makeOut.Unlock()
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir) // whatever an issuer's path may be
	if err != nil {
		return err
	}
	defer root.Close()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		changed, err := replaceFile(root, path.Join(".", name), files[name])
		if err != nil {
			return err
		}
		if name = path.Join(dir, name); changed {
			e.Written = append(e.Written, name)
		} else {
			e.Unchanged = append(e.Unchanged, name)
		}
	}
	return nil
}

// replaceFile makes data the content of name in one step, unless it is already.
func replaceFile(root *os.Root, name string, data []byte) (changed bool, err error) {
	old, err := root.ReadFile(name)
	if err == nil && bytes.Equal(old, data) {
		return false, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return false, err
	}
	temporary := fmt.Sprintf("%s.%d.new", name, time.Now().UnixNano())
	f, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return false, err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = root.Rename(temporary, name)
	}
	if err != nil {
		return false, errors.Join(err, root.Remove(temporary))
	}
	return true, nil
}

func printExported(cmd *cobra.Command, results []exported, asJSON bool) error {
	failed := 0
	for _, e := range results {
		if e.Error != "" {
			failed++
			warn(cmd, "issuer %s was left as it was: %s", e.Issuer, e.Error)
		} else if e.Warning != "" {
			warn(cmd, "issuer %s: what was known before was written: %s", e.Issuer, e.Warning)
		}
	}
	if asJSON {
		if err := printJSON(cmd, results); err != nil {
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
