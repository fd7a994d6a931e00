package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/flock"
)

// TestLockThatIsHeld starts servers while another process, such as a machine that
// shares the file system and hangs, holds a lock: that delays writing only.
func TestLockThatIsHeld(t *testing.T) {
	for _, tt := range []struct {
		name, dir string // whose lock is held
		policy    []string
		flags     []string
		reason    string
	}{
		{"store", "keys", nil, nil, "another process holds the lock keys/ring.lock"},
		{"store, with a signer", "keys", nil, []string{"--signer-socket", "s.sock"}, "another process holds the lock keys/ring.lock"},
		{"store, with another policy", "keys", nil, []string{"--schedule", "@weekly"}, "the policy could not be written"},
		{"store, short publish-ahead", "keys", []string{"--publish-ahead", "20s", "--clock-skew", "1s", "--schedule", "@every 10m"},
			[]string{"--signer-socket", "@lock", "--jwks-max-age", "1s", "--discovery-max-age", "1s"}, "another process holds the lock"},
		{"rollback state", "seen", nil, []string{"--rollback-state", "seen"}, "another process holds the lock seen/ring.lock"},
		{"store, with rollback state", "keys", nil, []string{"--rollback-state", "seen"}, "another process holds the lock keys/ring.lock"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newProcess(t)
			p.issuer = "http://" + p.addr
			p.must(append([]string{"keys", "init", "--store", "keys", "--issuer", p.issuer, "--algorithm", "ES256"}, tt.policy...)...)
			if err := os.MkdirAll(filepath.Join(p.dir, tt.dir), 0o700); err != nil {
				t.Fatal(err)
			}
			lock := flock.New(filepath.Join(p.dir, tt.dir, "ring.lock"), flock.SetPermissions(0o600))
			if err := lock.Lock(); err != nil {
				t.Fatal(err)
			}
			defer lock.Close()
			started := time.Now()
			p.launch(append([]string{"serve", "--store", "keys", "--issuer", p.issuer, "--listen", p.addr, "--witness", "none",
				"--admin-listen", p.adminAddr, "--shutdown-delay", "0s"}, tt.flags...)...)
			p.eventually("the ring is published", func() bool { return get(p.issuer+"/openid/v1/jwks") == 200 })
			if took := time.Since(started); took > 15*time.Second {
				t.Errorf("that took %v", took)
			}
			says := func() string { return fetchBody("http://" + p.adminAddr + "/readyz?verbose") }
			p.eventually("/readyz has the reason", func() bool { return strings.Contains(says()+p.output(), tt.reason) })
			if strings.Contains(tt.reason, "lock") {
				p.eventually("/readyz has the reason", func() bool { return strings.Contains(says(), tt.reason) })
			}
			p.eventually("it is ready", func() bool { return get("http://"+p.adminAddr+"/readyz") == 200 })
			if tt.policy != nil { // it must not get too old to sign while a write waits
				for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
					if code := get("http://" + p.adminAddr + "/readyz"); code != 200 {
						t.Fatalf("/readyz answers %d: %s", code, says())
					}
				}
			}
			stopped := time.Now()
			p.stop()
			if took := time.Since(stopped); took > 15*time.Second {
				t.Errorf("stopping took %v", took)
			}
		})
	}
}

// TestLockThatIsReleased writes what had to wait.
func TestLockThatIsReleased(t *testing.T) {
	p := newProcess(t)
	p.issuer = "http://" + p.addr
	p.must("keys", "init", "--store", "keys", "--issuer", p.issuer, "--algorithm", "ES256")
	lock := flock.New(filepath.Join(p.dir, "keys", "ring.lock"), flock.SetPermissions(0o600))
	if err := lock.Lock(); err != nil {
		t.Fatal(err)
	}
	p.start("--witness", "none")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	cmd := p.command("keys", "rotate", "--store", "keys", "--force")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	if err := cmd.Wait(); err == nil || !strings.Contains(p.output(), "another process holds the lock") {
		t.Errorf("a command: %v\n%s", err, p.output())
	}
	lock.Close()
	p.eventually("the next rotation is planned", func() bool {
		return strings.Contains(fetchBody("http://"+p.adminAddr+"/readyz?verbose"), "signs from")
	})
	p.stop()
}
