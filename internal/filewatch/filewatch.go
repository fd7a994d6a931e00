// Package filewatch answers whether a file has changed and has come to rest, so
// that it should be read (again). It starts no goroutine and reads no clock: its
// user calls it as often as it likes. A call costs one stat.
//
//	var file filewatch.File
//	for now := range ticks {
//		if !file.Due(path, now, 500*time.Millisecond) {
//			continue
//		}
//		data, _, err := input.ReadFile(path, limit)
//		if err != nil {
//			file.Forget() // try again, even if the file does not change
//		}
//		…
//	}
//
// Due may hang, as on a network file system. Look and Set do not.
//
// A link is followed, so that a Secret or ConfigMap that the kubelet mounts, in
// which a link changes and no file does, is noticed too.
package filewatch

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"

	"oidc-provider/internal/input"
)

// Coarse is the largest step of the clock of a file system in use. A file that
// changes twice within one step may look the same after the second change.
const Coarse = 2 * time.Second

// A File is what is known about one file. The zero value knows nothing. It is for
// one goroutine.
type File struct {
	known bool        // Due has returned true
	last  fs.FileInfo // of the file at that time, nil if it was missing
	fresh bool        // it had changed less than Coarse before
	hangs bool        // it did not answer when Look was called last

	next  fs.FileInfo // how it looks now, nil if it is missing
	since time.Time   // since when, zero if it looks as in last
}

// Due reports whether the file should be read now: nothing is known about it, or
// it has changed since Due returned true, or it is missing since. The path must be
// the same in all calls.
//
// The file must have come to rest, since it may still be written: Due waits until
// the file looks the same for the time rest, or has not changed for [Coarse]. A
// missing file must be missing for the time rest: it may be about to be replaced.
//
// If the last change was less than [Coarse] ago, another one may not show. The
// file is then due again: once when Coarse has passed or, if rest is 0, in every
// call until then.
func (f *File) Due(path string, now time.Time, rest time.Duration) bool {
	info, err := os.Stat(path)
	return f.Look(input.Stated{Info: info, Err: err}, now, rest)
}

// Look is [File.Due] for a file of which that is known now. A file that hangs
// (see [input.Stat]) is due once, so that its user notices the error, and again
// when it answers.
func (f *File) Look(stated input.Stated, now time.Time, rest time.Duration) bool {
	if errors.Is(stated.Err, input.ErrHangs) {
		due := !f.hangs
		f.hangs = true
		return due
	}
	if f.hangs {
		f.hangs, f.known = false, false
	}
	info := stated.Info
	atRest := info != nil && now.Sub(info.ModTime()) >= Coarse
	if f.known && same(info, f.last) {
		f.next, f.since = nil, time.Time{}
		due := f.fresh && (atRest || rest == 0)
		f.fresh = f.fresh && !atRest
		return due
	}
	if f.since.IsZero() || !same(info, f.next) {
		f.next, f.since = info, now
	}
	if !atRest && now.Sub(f.since) < rest {
		return false
	}
	*f = File{known: true, last: info, fresh: info != nil && !atRest}
	return true
}

// Missing reports whether the file was missing when Due returned true last.
func (f *File) Missing() bool { return f.known && f.last == nil }

// Waiting reports whether the file has changed and has not come to rest yet.
func (f *File) Waiting() bool { return !f.since.IsZero() }

// Forget makes the file due again, as if it had changed.
func (f *File) Forget() { f.known, f.hangs = false, false }

// same reports whether a and b describe the same file with the same content, as
// far as that shows. Mode counts: a file may have become readable.
func same(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && a.Mode() == b.Mode() && os.SameFile(a, b)
}

// A Set is what is known about several files that are read together. The zero
// value knows nothing. It is for one goroutine.
type Set struct {
	paths []string
	files []File
}

// Due reports whether the files should be read now, all of them: paths are not
// those of the last call, or one of the files is due (see [File.Due]). It keeps
// paths, which must not be modified.
func (s *Set) Due(paths []string, now time.Time, rest time.Duration) bool {
	due := false
	if !slices.Equal(paths, s.paths) {
		s.paths, s.files = paths, make([]File, len(paths))
		due, rest = true, 0
	}
	for i, stated := range input.Stat(paths...) {
		if s.files[i].Look(stated, now, rest) {
			due = true
		}
	}
	return due
}

// Forget makes the files due again, as if they had changed.
func (s *Set) Forget() { s.paths = nil }
