package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"oidc-provider/internal/config"
	"oidc-provider/internal/hint"
)

// A world is a directory of issuers, and a clock that goes as the test says.
type world struct {
	t   *testing.T
	dir *config.Dir
	at  string
	now time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	at := t.TempDir()
	c, err := config.Parse(filepath.Join(at, "c.yaml"), []byte("issuersDir: d\nissuersDirAllow: {managed: true}\nissuers: [{issuer: 'https://main.test', apiserver: {}}]"))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: config.NewDir(c), at: filepath.Join(at, "d"), now: time.Now().Add(time.Hour)}
	if err := os.Mkdir(w.at, 0o700); err != nil {
		t.Fatal(err)
	}
	return w
}

// write changes a file as somebody would who writes it now.
func (w *world) write(name, text string) {
	w.t.Helper()
	path := filepath.Join(w.at, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Chtimes(path, w.now, w.now); err != nil {
		w.t.Fatal(err)
	}
}

func issuer(name string) string {
	return fmt.Sprintf("issuer: https://%s.test\nfiles: {paths: [%s.pem]}\n", name, name)
}

// after is what is served when some time has passed: names, and problems.
func (w *world) after(d time.Duration, force bool) (served, problems string) {
	w.t.Helper()
	w.now = w.now.Add(d)
	w.dir.Scan(w.now, force)
	issuers, errs := w.dir.Issuers()
	var names []string
	for _, i := range issuers {
		names = append(names, strings.TrimSuffix(strings.TrimPrefix(i.Issuer, "https://"), ".test"))
	}
	for _, err := range errs {
		problems += hint.Text(err, hint.Field) + "\n"
	}
	return strings.Join(names, " "), problems
}

func (w *world) expect(what string, d time.Duration, served, problem string) {
	w.t.Helper()
	got, problems := w.after(d, false)
	if got != served || !strings.Contains(problems, problem) || (problem == "") != (problems == "") {
		w.t.Errorf("%s: %s served, want %s; problems %q, want %q", what, got, served, problems, problem)
	}
}

func TestDirFollowsItsFiles(t *testing.T) {
	w := newWorld(t)
	w.write("b.yaml", issuer("b"))
	w.write("a.json", `{"issuer": "https://a.test", "apiserver": {"kubeconfig": "k"}}`)
	w.write("c.yml", issuer("c1")+"---\n"+issuer("c2"))
	for _, name := range []string{".hidden.yaml", "x.yaml~", "README.md", ".d.yaml.swp"} {
		w.write(name, "nonsense")
	}
	w.expect("at the start nothing has to settle", 0, "main a b c1 c2", "")
	issuers, _ := w.dir.Issuers()
	if got := issuers[2].Files.Paths[0]; got != filepath.Join(w.at, "b.pem") {
		t.Errorf("a file name is %s, want it relative to its file", got)
	}

	w.write("d.yaml", issuer("d"))
	w.expect("one that may not be whole", 100*time.Millisecond, "main a b c1 c2", "")
	w.expect("one that has settled", 300*time.Millisecond, "main a b c1 c2 d", "")

	w.now = w.now.Add(2 * time.Second)
	w.write("d.yaml", "issuer: https://d.te")
	w.expect("a change in place shows later, and may not be whole", 1100*time.Millisecond, "main a b c1 c2 d", "")
	w.write("d.yaml", issuer("e")+"# done\n")
	w.expect("it goes on changing", 200*time.Millisecond, "main a b c1 c2 d", "")
	w.expect("it has settled", 300*time.Millisecond, "main a b c1 c2 e", "")

	if err := os.Remove(filepath.Join(w.at, "a.json")); err != nil {
		t.Fatal(err)
	}
	w.expect("a file that is gone, or is being replaced", 100*time.Millisecond, "main a b c1 c2 e", "")
	w.write("a.json", `{"issuer": "https://a.test", "apiserver": {}}`)
	w.expect("it was being replaced", 200*time.Millisecond, "main a b c1 c2 e", "")
	w.expect("it was being replaced", 300*time.Millisecond, "main a b c1 c2 e", "")
	if err := os.Remove(filepath.Join(w.at, "a.json")); err != nil {
		t.Fatal(err)
	}
	w.after(100*time.Millisecond, false)
	w.expect("a file that is gone", 300*time.Millisecond, "main b c1 c2 e", "")
}

func TestDirKeepsWhatMadeSense(t *testing.T) {
	w := newWorld(t)
	w.write("a.yaml", issuer("a"))
	w.write("b.yaml", issuer("b"))
	w.expect("at the start", 0, "main a b", "")
	for _, tt := range []struct{ text, problem string }{
		{"issuer: https://a.test\nfilse: {paths: [x]}\n", "a.yaml:2: filse: unknown field (hint: did you mean files?)"},
		{"issuer: ]", "a.yaml:"},
		{"issuer: not a url\napiserver: {}", "a.yaml:1: issuer: issuer \"not a url\""},
		{"", "hint: to remove an issuer, remove its file"},
	} {
		w.write("a.yaml", tt.text)
		w.after(time.Second, false)
		w.expect(tt.text, time.Second, "main a b", tt.problem)
	}
	w.write("a.yaml", issuer("a"))
	w.after(time.Second, false)
	w.expect("mended", time.Second, "main a b", "")

	w.write("c.yaml", issuer("b"))
	w.after(time.Second, false)
	w.expect("an issuer that there is", time.Second, "main a b", "c.yaml: issuer https://b.test is served at the same host and path as https://b.test")
	w.write("c.yaml", issuer("main"))
	w.after(time.Second, false)
	w.expect("one of the configuration", time.Second, "main a b", "as https://main.test")
	if err := os.Remove(filepath.Join(w.at, "c.yaml")); err != nil {
		t.Fatal(err)
	}

	w.after(time.Second, false)
	w.expect("removed", time.Second, "main a b", "")
	if err := os.Rename(w.at, w.at+".away"); err != nil {
		t.Fatal(err)
	}
	w.expect("no directory", time.Second, "main a b", "no such file")
	if err := os.Mkdir(w.at, 0o700); err != nil {
		t.Fatal(err)
	}
	w.expect("an empty one in its place", time.Second, "main a b", "no issuer file any more")
	if served, problems := w.after(time.Second, true); served != "main" || problems != "" {
		t.Errorf("an empty one that is meant: %s served, problems %q", served, problems)
	}
}

// An atomic change by renaming, as the kubelet does with a ConfigMap, shows at
// once.
func TestDirOfAConfigMap(t *testing.T) {
	w := newWorld(t)
	put := func(version, name string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(w.at, version), 0o700); err != nil {
			t.Fatal(err)
		}
		w.write(filepath.Join(version, "a.yaml"), issuer(name))
		if err := os.Symlink(version, filepath.Join(w.at, "..tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(w.at, "..tmp"), filepath.Join(w.at, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	put("..1", "one")
	if err := os.Symlink("..data/a.yaml", filepath.Join(w.at, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	w.expect("the first", 0, "main one", "")
	w.now = w.now.Add(-time.Minute) // it was written a while ago
	put("..2", "two")
	w.expect("the second", time.Minute, "main two", "")
}

// While nothing changes a look is one call of stat, whatever the directory
// holds.
func TestDirIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	for i := range 100 {
		w.write(fmt.Sprintf("%d.yaml", i), issuer(fmt.Sprint("i", i)))
	}
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(w.at, past, past); err != nil {
		t.Fatal(err)
	}
	if !w.dir.Scan(w.now, false) {
		t.Fatal("the first look finds nothing")
	}
	if n := testing.AllocsPerRun(100, func() {
		if w.dir.Scan(w.now.Add(500*time.Millisecond), false) {
			t.Fatal("a change")
		}
	}); n > 15 { // 100 files would be 100 or more
		t.Errorf("%v allocations a look", n)
	}
}

// A change of the configuration reaches the issuers of the directory, also of a
// file that cannot be used now.
func TestDirUnderAnotherConfiguration(t *testing.T) {
	w := newWorld(t)
	w.write("a.yaml", issuer("a"))
	w.write("b.yaml", issuer("b"))
	w.expect("at the start", 0, "main a b", "")
	w.write("b.yaml", "issuer: ]")
	c, err := config.Parse(filepath.Join(filepath.Dir(w.at), "c.yaml"), []byte("issuersDir: d\nissuersDirAllow: {managed: true}\njwksMaxAge: 2m"))
	if err != nil {
		t.Fatal(err)
	}
	w.dir.Reparent(c)
	w.after(time.Second, false)
	w.expect("with another configuration", time.Second, "a b", "b.yaml")
	issuers, _ := w.dir.Issuers()
	if got := time.Duration(issuers[0].JWKSMaxAge); got != 2*time.Minute {
		t.Errorf("jwksMaxAge is %v, want that of the new configuration", got)
	}
	for _, wrong := range []struct{ dir, problem string }{{w.at + "d", "no such file"}, {t.TempDir(), "no issuer file any more"}} {
		c.IssuersDir = wrong.dir
		w.dir.Reparent(c)
		w.expect("another directory", time.Second, "a b", wrong.problem)
	}
	if w.dir.Lost() {
		t.Error("nothing is lost")
	}
	w.at = c.IssuersDir
	w.write("c.yaml", issuer("c"))
	w.after(time.Second, false)
	w.expect("another directory", time.Second, "c", "")
	c.IssuersDir = ""
	w.dir.Reparent(c)
	w.expect("none", time.Second, "", "")
}

// The clock of a file system may show the same time for two changes.
func TestDirWithinOneTick(t *testing.T) {
	w := newWorld(t)
	w.write("a.yaml", issuer("a"))
	tick := w.now
	set := func() {
		t.Helper()
		if err := os.Chtimes(w.at, tick, tick); err != nil {
			t.Fatal(err)
		}
	}
	set()
	w.expect("the first", 0, "main a", "")
	w.write("b.yaml", issuer("b"))
	set()
	w.after(300*time.Millisecond, false)
	w.expect("a change with the same time", 300*time.Millisecond, "main a b", "")
}

// What was never fit to use is lost; what was once is not.
func TestDirLost(t *testing.T) {
	w := newWorld(t)
	lost := func(what string, want bool) {
		t.Helper()
		w.after(time.Second, false)
		w.after(time.Second, false)
		if w.dir.Lost() != want {
			t.Errorf("%s: lost is %v, want %v", what, !want, want)
		}
	}
	w.write("a.yaml", issuer("a"))
	lost("all is well", false)
	w.write("b.yaml", "issuer: ]")
	lost("a file that never made sense", true)
	w.write("b.yaml", issuer("b"))
	lost("mended", false)
	w.write("b.yaml", "issuer: ]")
	lost("a file that made sense", false)
}

// A file that would take the place of an issuer that is served, or its store, is
// refused, whatever it is called.
func TestDirServedComesFirst(t *testing.T) {
	w := newWorld(t)
	managed := func(name, store string) string {
		return fmt.Sprintf("issuer: https://%s.test\nmanaged: {store: %s}\n", name, store)
	}
	w.write("b.yaml", managed("b", "ring"))
	w.expect("at the start", 0, "main b", "")
	w.write("a.yaml", managed("a", "ring"))
	w.after(time.Second, false)
	w.expect("a copy with the same store", time.Second, "main b", "a.yaml: store "+filepath.Join(w.at, "ring")+" already belongs to issuer https://b.test")
	if !w.dir.Lost() {
		t.Error("an issuer that is refused is lost")
	}
	w.write("a.yaml", managed("b", "other"))
	w.after(time.Second, false)
	w.expect("a copy with the same issuer", time.Second, "main b", "a.yaml: issuer https://b.test is served at the same host and path")
	if err := os.Remove(filepath.Join(w.at, "b.yaml")); err != nil {
		t.Fatal(err)
	}
	w.after(time.Second, false)
	w.expect("the first is gone", time.Second, "main b", "")
}
