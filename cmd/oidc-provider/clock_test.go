package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"oidc-provider/internal/store"
	"oidc-provider/rotation"
)

// A ring that was written by a machine whose clock is an hour ahead stops no server
// from signing, and is repaired while they run and restart.
func TestRingFromTheFuture(t *testing.T) {
	t.Parallel()
	p := serve(t, []string{"--algorithm", "ES256"}, "--signer-socket", "s.sock", "--rollback-state", "seen")
	s, err := store.Open(store.Config{Store: filepath.Join(p.dir, "keys")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	// The server is done with its own writes.
	p.eventually("a rotation is planned", func() bool {
		return strings.Contains(fetchBody("http://"+p.adminAddr+"/metrics"), "next_rotation_timestamp_seconds{")
	})
	if _, err := s.Update(t.Context(), func(r *rotation.Ring) (*rotation.Ring, error) {
		r, _, err := rotation.Rotate(r, time.Now().Add(time.Hour), true, rotation.GenerateKey)
		return r, err
	}); err != nil {
		t.Fatal(err)
	}
	p.eventually("the server says so", func() bool { return strings.Contains(p.readyz(), "keys repair --clock") })
	if err := p.signsFor("s.sock", p.issuer); err != nil {
		t.Error(err)
	}
	p.mustAnswer("a ring from the future")
	if err := p.command("keys", "rotate", "--force", "--store", "keys").Run(); err == nil {
		t.Error("a command changes it")
	}

	before := ringOf(p)
	p.must("keys", "repair", "--clock", "--dry-run", "--store", "keys", "--trust-clock")
	if ringOf(p) != before {
		t.Error("a dry run has changed the ring")
	}
	p.must("keys", "repair", "--clock", "--store", "keys", "--trust-clock")
	p.eventually("the server follows", func() bool { return !strings.Contains(p.readyz(), "keys repair --clock") })
	p.stop()
	p.start("--signer-socket", "s.sock", "--rollback-state", "seen")
	if err := p.signsFor("s.sock", p.issuer); err != nil {
		t.Error(err)
	}
	if err := p.command("keys", "repair", "--clock", "--store", "keys").Run(); err == nil {
		t.Error("a ring that is not from the future was repaired")
	}
	p.stop()
}

// A server whose clock other machines contradict says so, signs, and writes nothing.
func TestServerWithAWrongClock(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	p.issuer = "http://" + p.addr
	p.must("keys", "init", "--store", "keys", "--issuer", p.issuer, "--algorithm", "ES256")
	before := ringOf(p)
	p.start("--trust-clock=false", "--signer-socket", "s.sock",
		"--witness", wrongWitness(t, 40*24*time.Hour), "--witness", wrongWitness(t, 40*24*time.Hour))
	p.eventually("it is told", func() bool {
		return strings.Contains(p.readyz(), "the clock is wrong: it is 960h0m0s ahead of that of http://127.0.0.1")
	})
	if metrics := fetchBody("http://" + p.adminAddr + "/metrics"); !strings.Contains(metrics, `oidc_provider_clock_confirmed{issuer="`+p.issuer+`"} 0`) {
		t.Errorf("the metric does not say so: %s", metrics)
	}
	if err := p.signsFor("s.sock", p.issuer); err != nil {
		t.Error(err)
	}
	p.mustAnswer("a wrong clock")
	if ringOf(p) != before {
		t.Error("the ring has changed")
	}
	p.stop()

	// An operator may know better.
	p.write("config.yaml", "issuers:\n- {issuer: '"+p.issuer+"', managed: {store: keys, witnesses: ['"+
		wrongWitness(t, 40*24*time.Hour)+"'], trustClock: true}}\n")
	p.run("serve", "--config", "config.yaml", "--trust-clock=false")
	p.eventually("it rotates", func() bool { return ringOf(p) != before })
	p.stop()
}

func ringOf(p *process) string {
	p.t.Helper()
	data, err := os.ReadFile(p.ring())
	if err != nil {
		p.t.Fatal(err)
	}
	return string(data)
}
