package fleet

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"oidc-provider/internal/config"
)

// TestReloader looks at files by hand: one that is being written is left alone,
// and one that was broken before a change of another stays what it was.
func TestReloader(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chtimes(path, now, now)); err != nil {
			t.Fatal(err)
		}
	}
	issuer := func(name string) string {
		return fmt.Sprintf("{issuer: 'https://%s.test', files: {paths: [x]}}\n", name)
	}
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	write("d/dir.yaml", issuer("dir"))
	one := "issuersDir: d\nissuers:\n- " + issuer("one")
	write("c.yaml", one)
	cfg, err := config.Load(filepath.Join(dir, "c.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	served := ""
	r := newReloader(filepath.Join(dir, "c.yaml"), []byte(one), cfg, slog.New(slog.DiscardHandler))
	apply := func(issuers []config.Issuer) {
		served = ""
		for _, i := range issuers {
			served += strings.TrimPrefix(strings.TrimSuffix(i.Issuer, ".test"), "https://") + " "
		}
	}
	look := func(what string, changed bool, want string) {
		t.Helper()
		now = now.Add(300 * time.Millisecond)
		if got := r.read(now, false); got != changed {
			t.Errorf("%s: changed is %v, want %v", what, got, changed)
		}
		r.dir.Scan(time.Now(), true)
		if r.apply(apply); served != want {
			t.Errorf("%s: %s is served, want %s", what, served, want)
		}
	}
	r.first(apply)
	look("nothing has changed", false, "one dir ")
	write("c.yaml", one+"- "+issuer("two"))
	look("it may not be whole", false, "one dir ")
	write("c.yaml", one+"- "+issuer("two")+"- "+issuer("three"))
	look("it goes on changing", false, "one dir ")
	look("it may still do", false, "one dir ")
	look("it has settled", true, "one two three dir ")
	look("nothing has changed", false, "one two three dir ")

	write("d/dir.yaml", "issuer: ]")
	look("a file is broken", false, "one two three dir ")
	write("c.yaml", one)
	r.read(now, false)
	now = now.Add(300 * time.Millisecond)
	look("another changes then", true, "one dir ")
	if err := r.problem(); err == nil || !strings.Contains(err.Error(), "dir.yaml") {
		t.Errorf("problems: %v", err)
	}
	if !r.check(true).Advisory {
		t.Error("a file whose issuers go on keeps the server from being ready")
	}
	write("d/new.yaml", "issuer: ]")
	look("a new file is broken", false, "one dir ")
	if _, err := r.check(true).Run(); err == nil || r.check(true).Advisory || !r.check(false).Advisory {
		t.Errorf("what is not served counts if all must be, and only then: %v", err)
	}
}
