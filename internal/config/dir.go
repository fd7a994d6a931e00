package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// How a Dir looks for changes.
const (
	// settle is how long a file must stay as it is before it is read: whoever
	// writes it may not be done.
	settle = 250 * time.Millisecond

	// A directory whose own time has not changed is looked through every
	// rescan, or so seldom that it takes a twentieth of a core at most.
	rescan      = time.Second
	rescanShare = 20

	// coarse is the least step of a file system's clock that is still met.
	coarse = 2 * time.Second
)

// A Dir is IssuersDir as it was seen last. It is for one goroutine.
type Dir struct {
	path    string
	parent  *Config
	files   map[string]*issuerFile
	changed time.Time // of the directory itself
	scanned time.Time
	took    time.Duration
	settled bool // no file was waiting to be read, or to be believed gone
	err     error

	served  map[string]string // the file of each issuer that Issuers returned last
	refused bool              // whether it returned not all
}

// An issuerFile is one file. What it said last that made sense stays in force.
type issuerFile struct {
	stamp   stamp
	issuers []Issuer
	err     error

	// A stamp that is not settled yet, and since when it has been seen; or
	// since when the file has been missing.
	next  stamp
	since time.Time
}

// A stamp changes when a file does.
type stamp struct {
	size     int64
	modified time.Time
	info     fs.FileInfo
}

func (s stamp) same(t stamp) bool {
	return s.info != nil && t.info != nil && s.size == t.size && s.modified.Equal(t.modified) && os.SameFile(s.info, t.info)
}

// NewDir is the IssuersDir of c, or one without issuers if c names none.
// Nothing is read before the first [Dir.Scan].
func NewDir(c *Config) *Dir {
	return &Dir{path: c.IssuersDir, parent: c, files: make(map[string]*issuerFile)}
}

// Reparent makes c the configuration that the directory belongs to. Its files
// are read again with the next Scan, as if they had changed.
func (d *Dir) Reparent(c *Config) {
	switch c.IssuersDir {
	case d.path:
	case "":
		*d = *NewDir(c)
	default: // what there was goes on until the other one can be read
		d.path, d.took = c.IssuersDir, 0
	}
	d.parent, d.scanned = c, time.Time{}
	for _, f := range d.files {
		f.stamp = stamp{}
	}
}

// Scan looks for changes, and says whether there were any. Mostly that takes
// one call of stat. With force every change counts at once: files are taken as
// they are, and a directory that is empty now is meant to be.
func (d *Dir) Scan(now time.Time, force bool) (changed bool) {
	if d.path == "" {
		return false
	}
	info, err := os.Stat(d.path)
	if err == nil && !force && !d.due(info, now) {
		return false
	}
	if err == nil {
		d.changed, d.scanned = info.ModTime(), now
		changed, err = d.scan(now, force)
		d.took = time.Since(now)
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
	if now.Sub(d.changed) < coarse && since > settle {
		return true
	}
	return since > max(rescan, rescanShare*d.took)
}

func (d *Dir) scan(now time.Time, force bool) (changed bool, err error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return false, err
	}
	there := make(map[string]bool)
	var read []string
	d.settled = true
	atOnce := force || d.took == 0
	for _, entry := range entries {
		name := entry.Name()
		if !isIssuerFile(name) {
			continue
		}
		there[name] = true
		f := d.files[name]
		if f == nil {
			f = new(issuerFile)
			d.files[name] = f
		}
		if f.due(filepath.Join(d.path, name), now, atOnce) {
			read = append(read, name)
		}
		d.settled = d.settled && f.since.IsZero()
	}
	if len(there) == 0 && len(d.files) > 0 && !force {
		return false, errors.New("it has no issuer file any more; the issuers that it had go on (hint: if that is meant, send SIGHUP or restart)")
	}
	for name, f := range d.files {
		switch {
		case there[name]:
		case f.gone(now, atOnce):
			delete(d.files, name)
			changed = true
		default:
			d.settled = false
		}
	}
	d.read(read)
	return changed || len(read) > 0, nil
}

// isIssuerFile leaves out what editors and the kubelet put beside.
func isIssuerFile(name string) bool {
	return !strings.HasPrefix(name, ".") && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name))
}

// due reports whether the file has changed and should be read now.
func (f *issuerFile) due(path string, now time.Time, atOnce bool) bool {
	info, err := os.Stat(path)
	if err != nil {
		info = nil
	}
	var s stamp
	if info != nil {
		s = stamp{info.Size(), info.ModTime(), info}
	}
	switch {
	case s.same(f.stamp) || info == nil && f.err != nil && f.stamp.info == nil:
		f.since = time.Time{}
		return false
	case f.since.IsZero() || !s.same(f.next):
		f.next, f.since = s, now
	}
	if age := now.Sub(s.modified); !atOnce && age < coarse && now.Sub(f.since) < settle {
		return false
	}
	f.stamp, f.since = s, time.Time{}
	return true
}

// gone reports whether the file has been missing for long enough: it may be
// written anew.
func (f *issuerFile) gone(now time.Time, atOnce bool) bool {
	if f.next.info != nil || f.since.IsZero() {
		f.next, f.since = stamp{}, now
	}
	return atOnce || now.Sub(f.since) >= settle
}

// read reads files, many at a time.
func (d *Dir) read(names []string) {
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, name := range names {
		f := d.files[name]
		g.Go(func() error {
			path := filepath.Join(d.path, name)
			data, err := Read(path)
			var issuers []Issuer
			if err == nil {
				issuers, err = parseIssuers(path, data, d.parent)
			}
			if f.err = err; err == nil {
				f.issuers = issuers
			}
			return nil
		})
	}
	g.Wait()
}

// Lost reports whether something is configured of which nothing is served, and
// not even what it was before: since it never made sense, or because
// [Dir.Issuers] has refused it.
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

// Issuers are all that are to be served, those of the configuration first, and
// what is wrong with the others. A file that cannot be used stands for what it
// said before, and an issuer that was served before comes before a new one that
// would take its place, its store or its socket.
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
