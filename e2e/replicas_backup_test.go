package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestOldBackup puts an old ring into etcd in the place of the newest, as a
// restored snapshot does. A server that runs and one that remembers refuse it. One
// that only has a peer to ask signs and writes nothing. The newest ring heals all.
func TestOldBackup(t *testing.T) {
	lab := newLab(t)
	p := lab.startReplicas(1, calm)
	running := p.replicas[0]
	asks := p.another("asks", "--witness", running.address()+"/openid/v1/jwks", "--witness-ca-file", lab.ca.caFile)
	remembers := p.another("remembers", "--witness", "none", "--rollback-state", lab.path("memory"))
	kv := etcdClient(t, p.members...)
	key := "/oidc-provider/ring"

	old := mustGet(t, kv, key).Value
	for range 3 {
		p.rotate(t, running)
	}
	remembers.start()
	remembers.stop()
	newest := mustGet(t, kv, key).Value
	before := running.published(t)

	mustPut(t, kv, key, old)
	put := mustGet(t, kv, key)
	began := time.Now()
	eventually(t, "the server names the old ring", agreement, func() error {
		_, report, err := get(t.Context(), lab.ca.client(), "http://"+running.admin+"/readyz?verbose")
		if err == nil && !strings.Contains(report, "[!]rotation: the ring went back in time") {
			err = fmt.Errorf("readyz:\n%s", report)
		}
		return err
	})
	t.Logf("named after %s", time.Since(began).Round(time.Millisecond))
	if !bytes.Contains(running.process.output(), []byte("this is an old backup, or another ring")) {
		t.Error("the log does not name the old ring")
	}
	if err := running.sign(t.Context()); err != nil {
		t.Errorf("it does not sign with what it knows: %v", err)
	}
	asks.start()
	asks.checkDoubts(t, running.address())
	remembers.refusesToStart(t, "this server before its start")
	p.checkGoesOn(t, running, began, before)
	if now := mustGet(t, kv, key); now.ModRevision != put.ModRevision {
		t.Errorf("somebody has written over the old ring:\n%s", now.Value)
	}

	mustPut(t, kv, key, newest)
	back := time.Now()
	if err := p.agree(running, back, agreement); err != nil {
		t.Error(err)
	}
	t.Logf("well %s after the newest ring was back", time.Since(back).Round(time.Millisecond))
	eventually(t, "asks has no doubt about the newest ring", agreement, func() error {
		_, report, err := get(t.Context(), lab.ca.client(), "http://"+asks.admin+"/readyz?verbose")
		if err == nil && strings.Contains(report, "[!]") {
			err = fmt.Errorf("readyz:\n%s", report)
		}
		return err
	})
	remembers.start()
	p.rotate(t, running)
	for _, r := range []*replica{asks, remembers} {
		if err := r.sign(t.Context()); err != nil {
			t.Errorf("%s: %v", r.name, err)
		}
		eventually(t, r.name+" shows what the first server does", agreement, func() error {
			if got, want := r.published(t), running.published(t); got != want {
				return fmt.Errorf("%s, want %s", got, want)
			}
			return nil
		})
		r.process.stop(10 * time.Second)
	}
}

// checkGoesOn follows a server that cannot use what is in its store, until it
// may not sign any more. It goes on publishing.
func (p *controlPlane) checkGoesOn(t *testing.T, r *replica, began time.Time, before string) {
	t.Helper()
	for r.sign(t.Context()) == nil && time.Since(began) < 2*r.policy.publishAhead {
		time.Sleep(20 * time.Millisecond)
	}
	if signed := time.Since(began); signed < r.policy.publishAhead-time.Second || signed > r.policy.publishAhead+time.Second {
		t.Errorf("it signed for %s on what it knew, want about %s", signed, r.policy.publishAhead)
	}
	if got := r.published(t); got != before {
		t.Errorf("it shows %s, and before the old ring %s", got, before)
	}
	status, report, err := get(t.Context(), p.lab.ca.client(), "http://"+r.admin+"/readyz?verbose")
	if err != nil || status != http.StatusServiceUnavailable {
		t.Errorf("readyz: %d %v, want not ready\n%s", status, err, report)
	}
}

// another is one more server on the same ring, over the same line.
func (p *controlPlane) another(name string, flags ...string) *replica {
	p.lab.t.Helper()
	first := p.replicas[0]
	r := &replica{provider: p.lab.newProvider(first.policy), index: 0, lines: first.lines}
	r.name, r.issuer, r.store = name, first.issuer, first.store
	r.identity, r.extra = first.identity, flags
	return r
}

// checkDoubts follows a server that was started on an old ring, and has learned only
// from a witness that there is a newer one.
func (r *replica) checkDoubts(t *testing.T, witness string) {
	t.Helper()
	client := r.lab.ca.client()
	_, report, err := get(t.Context(), client, "http://"+r.admin+"/readyz?verbose")
	if err != nil || !strings.Contains(report, "[!]rotation: nothing is written") || !strings.Contains(report, witness) {
		t.Errorf("readyz of %s: %v, want a doubt that names %s\n%s", r.name, err, witness, report)
	}
	_, metrics, err := get(t.Context(), client, "http://"+r.admin+"/metrics")
	if want := `oidc_provider_witness_unknown_keys{issuer="` + r.issuer + `"} 3`; err != nil || !strings.Contains(metrics, want) {
		t.Errorf("metrics of %s: %v, want %s", r.name, err, want)
	}
	if err := r.sign(t.Context()); err != nil {
		t.Errorf("%s does not sign: %v", r.name, err)
	}
}

// refusesToStart wants an exit with a reason that names who has seen more, and a
// hint.
func (r *replica) refusesToStart(t *testing.T, witness string) {
	t.Helper()
	r.launch()
	select {
	case <-r.process.done:
	case <-time.After(10 * time.Second):
		t.Errorf("%s has started on an old ring", r.name)
		r.process.kill()
		return
	}
	output := string(r.process.output())
	if code := r.process.cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("%s ended with exit status %d, want 1:\n%s", r.name, code, output)
	}
	for _, part := range []string{witness, "this is an old backup, or another ring", "(hint: restore the newest ring"} {
		if !strings.Contains(output, part) {
			t.Errorf("%s does not say %q:\n%s", r.name, part, output)
		}
	}
	t.Logf("%s: %s", r.name, tail(r.process.logPath, 1))
}

// rotate hands over at once, and returns when the server has noticed.
func (p *controlPlane) rotate(t *testing.T, r *replica) {
	t.Helper()
	r.change("rotate", "--force")
	began := time.Now()
	keys := r.mustKeys()
	eventually(t, "the server shows the new ring", agreement, func() error {
		known, err := r.knows(t.Context(), p.lab.ca.client())
		if err == nil && (!known.read.After(began) || len(known.kids) != len(keys)) {
			err = fmt.Errorf("it shows %v", known)
		}
		return err
	})
}

func mustGet(t testing.TB, c *clientv3.Client, key string) (kv struct {
	Value       []byte
	ModRevision int64
}) {
	t.Helper()
	resp, err := c.Get(t.Context(), key)
	if err != nil || len(resp.Kvs) != 1 {
		t.Fatalf("reading %s: %v", key, err)
	}
	kv.Value, kv.ModRevision = resp.Kvs[0].Value, resp.Kvs[0].ModRevision
	return kv
}

func mustPut(t testing.TB, c *clientv3.Client, key string, value []byte) {
	t.Helper()
	if _, err := c.Put(t.Context(), key, string(value)); err != nil {
		t.Fatal(err)
	}
}
