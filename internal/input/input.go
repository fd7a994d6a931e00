// Package input reads what comes from outside of the program, from files and
// connections, and never more of it than a stated bound.
//
//	data, err := input.ReadAtMost(resp.Body, 1<<20)
//	data, _, err := input.ReadFile("/etc/oidc-provider/keys.pem", 1<<20)
package input

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// ErrTooLarge is wrapped by the errors of input that exceeds its bound.
var ErrTooLarge = errors.New("too large")

// ReadAtMost reads r to its end. If it has more than limit bytes, ReadAtMost
// returns the first limit of them and an error that wraps [ErrTooLarge]. The
// error does not say what was read: the caller knows its name.
func ReadAtMost(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if int64(len(data)) > limit {
		return data[:limit], fmt.Errorf("%w: more than %s", ErrTooLarge, size(limit))
	}
	return data, err
}

// size formats a number of bytes in the largest unit that divides it.
func size(n int64) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}

// open opens a file and returns what is known about it. It refuses everything
// that is not a regular file, or a link to one: opening a pipe could block for
// ever, and a device may have no end. Errors name the path.
func open(path string) (*os.File, fs.FileInfo, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, notRegular(path, info)
	}
	// The path may name another file since Stat: a pipe must not block then.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	if info, err = file.Stat(); err == nil && !info.Mode().IsRegular() {
		err = notRegular(path, info)
	}
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, info, nil
}

func notRegular(path string, info fs.FileInfo) error {
	kind := "it is a device"
	switch mode := info.Mode(); {
	case mode.IsDir():
		kind = "it is a directory"
	case mode&fs.ModeNamedPipe != 0:
		kind = "it is a pipe"
	case mode&fs.ModeSocket != 0:
		kind = "it is a socket"
	}
	return fmt.Errorf("%s is not a regular file: %s", path, kind)
}

// CheckRegular returns an error if [ReadFile] would refuse the file at path, for
// one that is read by a library. A missing file is left to that.
func CheckRegular(path string) error {
	s := Stat(path)[0]
	switch {
	case errors.Is(s.Err, ErrHangs):
		return s.Err
	case s.Err == nil && !s.Info.Mode().IsRegular():
		return notRegular(path, s.Info)
	}
	return nil
}

// ReadFile reads a regular file of at most limit bytes, and returns what was
// known about it when it was opened. Errors name the path. One that does not
// answer is an error, too: see [Bounded].
func ReadFile(path string, limit int64) ([]byte, fs.FileInfo, error) {
	type content struct {
		data []byte
		info fs.FileInfo
	}
	c, err := Bounded(path, func() (content, error) {
		file, info, err := open(path)
		if err != nil {
			return content{}, err
		}
		defer file.Close()
		data, err := ReadAtMost(file, limit)
		if err != nil {
			return content{}, fmt.Errorf("%s: %w", path, err)
		}
		return content{data, info}, nil
	})
	return c.data, c.info, err
}
