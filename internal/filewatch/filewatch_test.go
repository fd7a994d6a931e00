package filewatch_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"oidc-provider/internal/filewatch"
)

const (
	rest = 500 * time.Millisecond
	ms   = time.Millisecond
)

// A look is a change to a file, followed by a question about it.
type look struct {
	change string        // the new content, "-" to remove the file, "" for no change
	after  time.Duration // from the previous look to this one
	age    time.Duration // of the change
	rest   time.Duration
	due    bool
}

func TestDue(t *testing.T) {
	for _, tt := range []struct {
		name  string
		looks []look
	}{
		{"an old file is due once", []look{
			{"a", 0, time.Hour, rest, true}, {"", ms, 0, rest, false}, {"", time.Hour, 0, rest, false},
		}},
		{"a file that is new must rest", []look{
			{"a", 0, 0, rest, false}, {"", rest - ms, 0, rest, false}, {"", ms, 0, rest, true},
			{"", rest, 0, rest, false},
			{"", time.Second, 0, rest, true}, // 2s after the change: another one might not have shown
			{"", time.Second, 0, rest, false},
		}},
		{"a file that is being written is not due", []look{
			{"a", 0, time.Hour, rest, true},
			{"ab", rest, 0, rest, false}, {"abc", rest - ms, 0, rest, false}, {"abcd", rest - ms, 0, rest, false},
			{"", rest, 0, rest, true},
		}},
		{"a file whose change is old is due at once", []look{
			{"a", 0, time.Hour, rest, true}, {"b", ms, time.Minute, rest, true},
			{"b", ms, 2 * time.Minute, rest, true}, {"", ms, 0, rest, false},
		}},
		{"a change that is undone is none", []look{
			{"a", 0, time.Hour, rest, true}, {"ab", ms, 0, rest, false},
			{"a", ms, time.Hour + 2*ms, rest, false}, {"", time.Minute, 0, rest, false},
		}},
		{"a missing file is due after a rest", []look{
			{"a", 0, time.Hour, rest, true},
			{"-", ms, 0, rest, false}, {"", rest, 0, rest, true}, {"", time.Hour, 0, rest, false},
			{"a", ms, 0, rest, false}, {"", rest, 0, rest, true},
		}},
		{"a missing file may be about to be replaced", []look{
			{"a", 0, time.Hour, rest, true}, {"-", ms, 0, rest, false}, {"b", rest - ms, 0, rest, false},
			{"", rest - ms, 0, rest, false}, {"", ms, 0, rest, true},
		}},
		{"a file that was never there", []look{
			{"-", 0, 0, rest, false}, {"", rest, 0, rest, true}, {"", rest, 0, rest, false},
		}},
		{"without a rest a new file is due until changes show", []look{
			{"a", 0, 0, 0, true}, {"", ms, 0, 0, true}, {"", time.Second, 0, 0, true},
			{"", time.Second, 0, 0, true}, {"", ms, 0, 0, false},
		}},
		{"without a rest a missing file is due at once, and once", []look{
			{"-", 0, 0, 0, true}, {"", ms, 0, 0, false}, {"a", ms, time.Hour, 0, true}, {"-", ms, 0, 0, true},
		}},
		{"a file from the future", []look{
			{"a", 0, -time.Minute, rest, false}, {"", rest, 0, rest, true}, {"", time.Second, 0, rest, false},
			{"b", ms, -time.Minute, rest, false}, {"", rest, 0, rest, true},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			var file filewatch.File
			var set filewatch.Set
			now := time.Now().Truncate(time.Second)
			for i, look := range tt.looks {
				now = now.Add(look.after)
				change(t, path, look.change, now.Add(-look.age))
				if got := file.Due(path, now, look.rest); got != look.due {
					t.Errorf("look %d, %v: got %v, want %v", i, look, got, look.due)
				}
				// A Set that knows its files answers for each as a File does.
				if got := set.Due([]string{path}, now, look.rest); i > 0 && tt.looks[0].due && got != look.due {
					t.Errorf("look %d at a set, %v: got %v, want %v", i, look, got, look.due)
				}
			}
		})
	}
}

// change writes a file in place, as if at a certain time.
func change(t *testing.T, path, content string, at time.Time) {
	t.Helper()
	switch content {
	case "":
		return
	case "-":
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// Neither size nor time differs.
func TestDueAfterChangesThatHide(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "file"), filepath.Join(dir, "other")
	now := time.Now()
	old := now.Add(-time.Hour)
	change(t, path, "a", old)
	change(t, other, "b", old)
	var file filewatch.File
	due := func(what string, want bool) {
		t.Helper()
		if got := file.Due(path, now, rest); got != want {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	due("at first", true)
	if err := os.Rename(other, path); err != nil {
		t.Fatal(err)
	}
	due("another file under the same name", true)
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	due("another mode", true)
	due("no change", false)
	file.Forget()
	due("forgotten", true)
	due("no change", false)
}

// As the kubelet replaces the files of a ConfigMap.
func TestDueThroughLinks(t *testing.T) {
	dir := t.TempDir()
	old := time.Now().Add(-time.Hour)
	for _, version := range []string{"1", "2"} {
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		change(t, filepath.Join(dir, version, "file"), version, old)
	}
	link(t, "1", filepath.Join(dir, "data"))
	link(t, filepath.Join("data", "file"), filepath.Join(dir, "file"))
	var file filewatch.File
	for i, want := range []bool{true, false, true, false} {
		if i == 2 {
			link(t, "2", filepath.Join(dir, "data"))
		}
		if got := file.Due(filepath.Join(dir, "file"), time.Now(), rest); got != want {
			t.Errorf("look %d: got %v, want %v", i, got, want)
		}
	}
}

func link(t *testing.T, target, name string) {
	t.Helper()
	if err := os.Symlink(target, name+".new"); err != nil {
		t.Skip(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

func TestMissingAndWaiting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	now := time.Now()
	var file filewatch.File
	for i, step := range []struct {
		change                string
		after                 time.Duration
		due, missing, waiting bool
	}{
		{"", 0, false, false, true},
		{"", rest, true, true, false},
		{"a", ms, false, true, true},
		{"", rest, true, false, false},
		{"-", ms, false, false, true},
		{"", rest, true, true, false},
	} {
		now = now.Add(step.after)
		change(t, path, step.change, now)
		due := file.Due(path, now, rest)
		if due != step.due || file.Missing() != step.missing || file.Waiting() != step.waiting {
			t.Errorf("step %d: due %v, missing %v, waiting %v; want %+v", i, due, file.Missing(), file.Waiting(), step)
		}
	}
}

func TestSet(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	now := time.Now()
	old := now.Add(-time.Hour)
	change(t, a, "a", old)
	change(t, b, "b", old)
	var set filewatch.Set
	due := func(what string, want bool, paths ...string) {
		t.Helper()
		if got := set.Due(paths, now, rest); got != want {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	due("no files", false)
	due("both", true, a, b)
	due("no change", false, a, b)
	due("another order", true, b, a)
	due("one less", true, b)
	due("one more", true, a, b)
	change(t, a, "aa", old)
	change(t, b, "bb", old)
	due("both have changed", true, a, b)
	due("no change", false, a, b)
	set.Forget()
	due("forgotten", true, a, b)
	due("no change", false, a, b)
}

// Time is an argument: a loop can be tested with the clock of synctest.
func TestSynctest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	synctest.Test(t, func(t *testing.T) {
		change(t, path, "a", time.Now())
		var file filewatch.File
		begin := time.Now()
		for !file.Due(path, time.Now(), rest) {
			time.Sleep(100 * ms)
		}
		if waited := time.Since(begin); waited != rest {
			t.Errorf("due after %v, want %v", waited, rest)
		}
	})
}

// Nothing is allocated but what os.Stat returns.
func TestDueIsCheap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	now := time.Now()
	change(t, path, "a", now.Add(-time.Hour))
	var file filewatch.File
	file.Due(path, now, rest)
	var info fs.FileInfo
	stat := testing.AllocsPerRun(100, func() { info, _ = os.Stat(path) })
	due := testing.AllocsPerRun(100, func() { file.Due(path, now, rest) })
	if due > stat {
		t.Errorf("%v allocations, and %v for a stat of %s", due, stat, info.Name())
	}
}
