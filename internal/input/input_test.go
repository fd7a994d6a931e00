package input_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"oidc-provider/internal/input"
)

func TestReadAtMost(t *testing.T) {
	broken := io.MultiReader(strings.NewReader("12"), iotest.ErrReader(errors.New("broken")))
	for _, tt := range []struct {
		name  string
		from  io.Reader
		limit int64
		want  string
		err   string
	}{
		{"empty", strings.NewReader(""), 3, "", ""},
		{"as much as is allowed", strings.NewReader("123"), 3, "123", ""},
		{"one more", strings.NewReader("1234"), 3, "123", "too large: more than 3 bytes"},
		{"without an end", endless{}, 1 << 10, strings.Repeat("x", 1<<10), "too large: more than 1 KiB"},
		{"without an end, in MiB", endless{}, 2 << 20, strings.Repeat("x", 2<<20), "too large: more than 2 MiB"},
		{"broken", broken, 3, "12", "broken"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data, err := input.ReadAtMost(tt.from, tt.limit)
			if string(data) != tt.want || (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
				t.Errorf("got %d bytes and %v, want %d and %q", len(data), err, len(tt.want), tt.err)
			}
			if large := strings.HasPrefix(tt.err, "too large"); errors.Is(err, input.ErrTooLarge) != large {
				t.Errorf("ErrTooLarge in %v: want %v", err, large)
			}
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("123"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, link} {
		data, info, err := input.ReadFile(name, 3)
		if err != nil || string(data) != "123" || info.Size() != 3 {
			t.Errorf("%s: got %q, %v, %v", name, data, info, err)
		}
	}
	if _, _, err := input.ReadFile(path, 2); !errors.Is(err, input.ErrTooLarge) || !strings.Contains(err.Error(), path) {
		t.Errorf("too large: got %v", err)
	}
	missing := filepath.Join(dir, "missing")
	if _, _, err := input.ReadFile(missing, 2); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), missing) {
		t.Errorf("missing: got %v", err)
	}
	if _, _, err := input.ReadFile(dir, 2); err == nil || err.Error() != dir+" is not a regular file: it is a directory" {
		t.Errorf("directory: got %v", err)
	}
}
