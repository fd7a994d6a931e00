package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"oidc-provider/internal/filewatch"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/input"
)

// How a Dir looks for changes.
const (
	// restFor is how long a file must stay the same before it is read: it may
	// still be written.
	restFor = 250 * time.Millisecond

	// A directory whose own time has not changed is scanned every rescan, or so
	// rarely that it takes at most a twentieth of a core.
	rescan      = time.Second
	rescanShare = 20
)

// A Dir is IssuersDir as it was last seen. It is for one goroutine.
type Dir struct {
	path    string
	parent  *Config
	files   map[string]*issuerFile
	changed time.Time // of the directory itself
	scanned time.Time
	took    time.Duration
	settled bool // no file has yet to come to rest
	err     error

	served  map[string]string // the file of each issuer that Issuers returned last
	refused bool              // whether it refused some
}

// An issuerFile is one file. Its last valid content stays in force.
type issuerFile struct {
	watch   filewatch.File
	issuers []Issuer
	err     error
	limited bool // what it may contain has changed: its previous content may be too much
}

// NewDir returns the IssuersDir of c, or one without issuers if c names none. It
// reads nothing before the first [Dir.Scan].
func NewDir(c *Config) *Dir {
	return &Dir{path: c.IssuersDir, parent: c, files: make(map[string]*issuerFile)}
}

// Reparent makes c the configuration that the directory belongs to. The next Scan
// reads its files again, as if they had changed.
func (d *Dir) Reparent(c *Config) {
	switch c.IssuersDir {
	case d.path:
	case "":
		*d = *NewDir(c)
	default: // the previous issuers stay in force until the new directory can be read
		d.path, d.took = c.IssuersDir, 0
	}
	limited := !reflect.DeepEqual(c.IssuersDirAllow, d.parent.IssuersDirAllow)
	d.parent, d.scanned = c, time.Time{}
	for _, f := range d.files {
		f.watch.Forget()
		f.limited = f.limited || limited
	}
}

// Scan looks for changes, and reports whether there were any. Usually that takes
// one call of stat. With force every change counts at once: a file need not come to
// rest, and an empty directory is believed.
func (d *Dir) Scan(now time.Time, force bool) (changed bool) {
	if d.path == "" {
		return false
	}
	dir := input.Stat(d.path)[0]
	err := dir.Err
	if err == nil && !force && !d.due(dir.Info, now) {
		return false
	}
	if err == nil {
		d.changed, d.scanned = dir.Info.ModTime(), now
		changed, err = d.scan(now, force)
		if d.took = time.Since(now); d.hangs() { // the next scan does not wait for that file
			d.took = min(d.took, rescan/rescanShare)
		}
	}
	if fmt.Sprint(err) != fmt.Sprint(d.err) {
		changed = true
	}
	d.err = err
	return changed
}

func (d *Dir) due(info fs.FileInfo, now time.Time) bool {
	since := now.Sub(d.scanned)
	if !d.settled || !info.ModTime().Equal(d.changed) || since < 0 {
		return true
	}
	// A change within the same tick of a coarse clock does not show.
	if now.Sub(d.changed) < filewatch.Coarse && since > restFor {
		return true
	}
	return since > max(rescan, rescanShare*d.took)
}

// hangs reports whether a file does not answer.
func (d *Dir) hangs() bool {
	for _, f := range d.files {
		if errors.Is(f.err, input.ErrHangs) {
			return true
		}
	}
	return false
}

func (d *Dir) scan(now time.Time, force bool) (changed bool, err error) {
	entries, err := input.Bounded(d.path, func() ([]fs.DirEntry, error) { return os.ReadDir(d.path) })
	if err != nil {
		return false, err
	}
	there := make(map[string]bool)
	for _, entry := range entries {
		if name := entry.Name(); isIssuerFile(name) {
			there[name] = true
		}
	}
	d.settled = true
	if len(there) == 0 && len(d.files) > 0 && !force {
		return false, hint.Errorf("if that is meant, send SIGHUP or restart", "no issuer file any more; keeping the issuers")
	}
	for name := range there {
		if d.files[name] == nil {
			d.files[name] = new(issuerFile)
		}
	}
	rest := restFor
	if force || d.took == 0 {
		rest = 0
	}
	var read []string
	names := slices.Collect(maps.Keys(d.files))
	for i, stated := range input.Stat(d.paths(names)...) {
		name := names[i]
		f := d.files[name]
		due := f.watch.Look(stated, now, rest)
		switch {
		case due && f.watch.Missing() && !there[name]:
			delete(d.files, name)
			changed = true
		case due:
			read = append(read, name)
		}
		d.settled = d.settled && !f.watch.Waiting() && (there[name] || due)
	}
	d.read(read)
	return changed || len(read) > 0, nil
}

func (d *Dir) paths(names []string) []string {
	paths := make([]string, len(names))
	for i, name := range names {
		paths[i] = filepath.Join(d.path, name)
	}
	return paths
}

// isIssuerFile excludes the files of editors and of the kubelet.
func isIssuerFile(name string) bool {
	return !strings.HasPrefix(name, ".") && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name))
}

// read reads files, several at a time.
func (d *Dir) read(names []string) {
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, name := range names {
		f := d.files[name]
		g.Go(func() error {
			path := filepath.Join(d.path, name)
			data, err := read(path, maxIssuerFile)
			var issuers []Issuer
			if err == nil {
				issuers, err = parseIssuers(path, data, d.parent)
			}
			switch f.err = err; {
			case err == nil:
				f.issuers = issuers
			case f.limited:
				f.issuers = nil
			}
			f.limited = false
			return nil
		})
	}
	g.Wait()
}

// Lost reports whether a configured issuer is not served, not even as it was
// before: because its file was never valid, or because [Dir.Issuers] refused it.
func (d *Dir) Lost() bool {
	if d.refused || d.err != nil && len(d.files) == 0 {
		return true
	}
	for _, f := range d.files {
		if f.err != nil && f.issuers == nil {
			return true
		}
	}
	return false
}

// Issuers returns the issuers to serve, those of the configuration file first, and
// what is wrong with the others. A file that is not valid keeps its previous
// issuers. An issuer that was served before has precedence over a new one with the
// same route, store or socket.
func (d *Dir) Issuers() (issuers []Issuer, problems []error) {
	taken := make(claims)
	for i := range d.parent.Issuers {
		taken.claim(&d.parent.Issuers[i])
	}
	if d.err != nil {
		problems = append(problems, fmt.Errorf("issuersDir %s: %w", d.path, d.err))
	}
	type entry struct {
		file   string
		issuer *Issuer
	}
	var entries []entry
	refused := make(map[entry]error)
	for _, name := range slices.Sorted(maps.Keys(d.files)) {
		f := d.files[name]
		if f.err != nil {
			problems = append(problems, f.err)
		}
		for i := range f.issuers {
			entries = append(entries, entry{name, &f.issuers[i]})
		}
	}
	served := make(map[string]string)
	for _, old := range []bool{true, false} {
		for _, e := range entries {
			if (d.served[e.issuer.Issuer] == e.file) != old {
				continue
			}
			if refused[e] = taken.claim(e.issuer); refused[e] == nil {
				served[e.issuer.Issuer] = e.file
			}
		}
	}
	issuers = slices.Clip(d.parent.Issuers)
	d.refused = false
	for _, e := range entries {
		if err := refused[e]; err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", filepath.Join(d.path, e.file), err))
			d.refused = true
			continue
		}
		issuers = append(issuers, *e.issuer)
	}
	d.served = served
	return issuers, problems
}
