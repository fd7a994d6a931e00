package input_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/input"
)

// hang begins a call for path that does not return before the test ends.
func hang(t *testing.T, path string) error {
	release, returned := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() {
		close(release)
		<-returned
		for { // until the call is forgotten
			if _, err := input.Bounded(path, func() (int, error) { return 0, nil }); err == nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
	_, err := input.Bounded(path, func() (int, error) {
		defer close(returned)
		<-release
		return 1, nil
	})
	return err
}

func TestBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if n, err := input.Bounded(path, func() (int, error) { return 7, nil }); n != 7 || err != nil {
		t.Errorf("a call that returns: %d, %v", n, err)
	}
	failure := errors.New("a failure")
	if _, err := input.Bounded(path, func() (int, error) { return 0, failure }); err != failure {
		t.Errorf("a call that fails: %v", err)
	}
	t.Run("hangs", func(t *testing.T) {
		first := hang(t, path)
		if !errors.Is(first, input.ErrHangs) || !strings.Contains(first.Error(), path) || hint.Of(first) == "" {
			t.Errorf("a call that hangs: %v", first)
		}
		begin := time.Now()
		_, err := input.Bounded(path, func() (int, error) { t.Error("the path is used again"); return 0, nil })
		if fmt.Sprint(err) != fmt.Sprint(first) {
			t.Errorf("then: %v, and before: %v", err, first)
		}
		if _, _, err := input.ReadFile(path, 1); !errors.Is(err, input.ErrHangs) {
			t.Errorf("reading then: %v", err)
		}
		if s := input.Stat(path)[0]; !errors.Is(s.Err, input.ErrHangs) {
			t.Errorf("stat then: %v", s.Err)
		}
		if took := time.Since(begin); took > 900*time.Millisecond {
			t.Errorf("after the first call that hangs, others took %v", took)
		}
		if n, err := input.Bounded(path+"2", func() (int, error) { return 7, nil }); n != 7 || err != nil {
			t.Errorf("another path: %d, %v", n, err)
		}
	})
	if n, err := input.Bounded(path, func() (int, error) { return 8, nil }); n != 8 || err != nil {
		t.Errorf("a path that answers again: %d, %v", n, err)
	}
}

// Many calls that hang delay the others by two seconds together, and are bounded.
func TestManyHang(t *testing.T) {
	dir := t.TempDir()
	begin := time.Now()
	for i := range 64 {
		if err := hang(t, filepath.Join(dir, fmt.Sprint(i))); !errors.Is(err, input.ErrHangs) {
			t.Fatal(err)
		}
	}
	if took := time.Since(begin); took > 4*time.Second {
		t.Errorf("64 calls that hang took %v", took)
	}
	_, err := input.Bounded(filepath.Join(dir, "one more"), func() (int, error) {
		t.Error("one more thread")
		return 0, nil
	})
	if !errors.Is(err, input.ErrHangs) || !strings.Contains(err.Error(), "64 others hang") {
		t.Errorf("one more: %v", err)
	}
}

func TestStat(t *testing.T) {
	dir := t.TempDir()
	var paths []string
	for i := range 100 {
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(path, make([]byte, i), 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	for _, i := range []int{0, 42, 43, 99} {
		if err := hang(t, paths[i]); !errors.Is(err, input.ErrHangs) {
			t.Fatal(err)
		}
	}
	if err := os.Remove(paths[7]); err != nil {
		t.Fatal(err)
	}
	all := input.Stat(paths...)
	for i, s := range all {
		switch i {
		case 0, 42, 43, 99:
			if !errors.Is(s.Err, input.ErrHangs) || !strings.Contains(s.Err.Error(), paths[i]) {
				t.Errorf("%d hangs: %v", i, s.Err)
			}
		case 7:
			if !errors.Is(s.Err, os.ErrNotExist) {
				t.Errorf("%d is missing: %v", i, s.Err)
			}
		default:
			if s.Err != nil || s.Info.Size() != int64(i) {
				t.Errorf("%d: %v, %v", i, s.Info, s.Err)
			}
		}
	}
	if len(all) != len(paths) || len(input.Stat()) != 0 {
		t.Errorf("%d results", len(all))
	}
}
